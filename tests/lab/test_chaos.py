"""A short chaos run with a fixed seed; `make chaos` makes the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos import chaos, supervised_shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig import World

import pytest

FAULTS = (
    "postgres-db killed with all its processes",
    "veth of redis-cache deleted",
    "order-service: its program killed",
)


@pytest.fixture(scope="module")
def shop() -> Iterator[World]:
    with supervised_shop() as built:
        yield built


@pytest.mark.timeout(300)
def test_every_acknowledged_order_is_kept_once_and_the_stock_adds_up(shop: World) -> None:
    report = chaos(shop, orders=200, faults=FAULTS, clients=8, seed=7)
    assert report.errors == []
    assert len(report.faults) == len(FAULTS)
    assert len(report.tally.acknowledged) == 200


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "fault",
    ["postgres-db: its program killed", "redis-cache killed with all its processes"],
)
def test_store_killed_again_and_again_in_mid_transaction_loses_nothing(
    shop: World, fault: str
) -> None:
    report = chaos(shop, orders=300, faults=[fault] * 3, clients=8, seed=11)
    assert report.errors == []
    assert len(report.tally.acknowledged) == 300
    assert len(report.faults) == 3
