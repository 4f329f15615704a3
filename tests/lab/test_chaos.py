"""A short chaos run with a fixed seed; `make chaos` makes the long one."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from books import Books, words_of
from buyers import Tally
from chaos import chaos, supervised_shop
from faults import backends, program, serves, whole
from rig import eventually

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


def test_transaction_of_a_killed_backend_leaves_no_trace(shop: World) -> None:
    """PostgreSQL's own process for one client, in the middle of what it does for it."""
    books = Books.open(shop)
    text = "BEGIN; UPDATE products SET stock = stock - 1 WHERE id = 4; SELECT pg_sleep(100); COMMIT"
    client = subprocess.Popen(
        ["ip", "netns", "exec", shop.host, *words_of(shop, text)], stderr=subprocess.DEVNULL
    )
    first = program(shop, "postgres-db")

    try:
        eventually(lambda: len(backends(shop, "SELECT")) == 1)
        os.kill(backends(shop, "SELECT")[0], signal.SIGKILL)
        assert client.wait(timeout=60) != 0
    finally:
        client.kill()
    eventually(lambda: whole(shop) and serves(shop), within_s=60)
    assert program(shop, "postgres-db") == first  # it recovers by itself
    assert books.errors(shop, Tally(), others=True) == []


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
