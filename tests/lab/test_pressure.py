"""Too much at once, a full disk, a lost state directory, a reboot: nothing acknowledged is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from books import Books, query
from buyers import Buyers, Tally, wishes
from chaos import supervised_shop
from disasters import FLOOD, FLOODS, flooded, lose_run_directory, lose_state_directory, reboot
from faults import serves, whole
from rig import World, eventually


@pytest.fixture(scope="module")
def shop() -> Iterator[World]:
    with supervised_shop() as built:
        eventually(lambda: whole(built) and serves(built), within_s=60)
        yield built


def pids(shop: World) -> dict[str, int]:
    rows = shop.orchestrator("status", "--json").json()["nodes"]
    return {row["node"]: row["pid"] for row in rows if row["pid"]}


def order(shop: World, count: int, seed: int) -> Tally:
    books = Books.open(shop)
    todo = wishes(count, books.stock, random.Random(seed), f"p{seed}-{books.last}")
    buyers = Buyers(shop.host, todo, clients=8, seed=seed)
    buyers.allow(count)
    return buyers.join()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("host", "port"), [("10.0.0.20", 3000), ("127.0.0.1", 8080)])
def test_flood_is_served_or_shed_and_nobody_is_taken_for_hung(
    shop: World, host: str, port: int
) -> None:
    before, journal = pids(shop), shop.state / f"shop@{shop.host}" / "journal.jsonl"
    healings = journal.read_text().count('"command":"heal"')
    found = flooded(shop, host, port)
    assert found.total() == FLOOD * FLOODS
    assert found["hangs"] == 0, found
    assert found["200"] > 0, found
    eventually(lambda: whole(shop) and serves(shop), within_s=60)
    assert pids(shop) == before
    assert journal.read_text().count('"command":"heal"') == healings


@pytest.mark.timeout(300)
def test_reboot_in_the_middle_of_it_all_costs_no_order(shop: World) -> None:
    """State on disk, nothing in the kernel, /run empty, and a journal of another boot."""
    books = Books.open(shop)
    tally = order(shop, 100, 3)
    reboot(shop)
    shop.orchestrator("up", "--supervise").ok()
    assert whole(shop)
    assert serves(shop)
    assert books.errors(shop, tally, others=True) == []


@pytest.mark.timeout(300)
def test_lost_run_directory_is_made_again(shop: World) -> None:
    books, before = Books.open(shop), pids(shop)
    tally = order(shop, 50, 4)
    lose_run_directory(shop)
    assert shop.orchestrator("status").code == 0
    shop.orchestrator("up", "--supervise").ok()
    assert serves(shop)
    # What ran had its /etc and its secrets there.
    assert pids(shop).items().isdisjoint(before.items())
    for name in ("redis-cache", "api-gateway"):
        shop.kill(name)
    eventually(lambda: whole(shop) and serves(shop), within_s=60)
    assert books.errors(shop, tally, others=True) == []


@pytest.mark.timeout(300)
def test_lost_state_directory_is_begun_again(shop: World) -> None:
    """Data that was deleted is gone; what stands on it must not go on as if it were there."""
    lose_state_directory(shop)
    for command in ("status", "events", "plan"):
        done = shop.orchestrator(command)
        assert done.code == 0, done.text
    eventually(lambda: whole(shop) and serves(shop), within_s=120)  # by the supervisor alone
    again = shop.orchestrator("up", "--supervise").ok()
    assert "already up" in again.out
    assert len(query(shop, "SELECT 1 FROM orders")) < 20  # a new database, not a ghost
    shop.orchestrator("down").ok()
    shop.orchestrator("up", "--supervise").ok()
    assert serves(shop)
