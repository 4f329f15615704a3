"""A full disk: orders are refused, not lost; everything says so, and heals when there is room."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from books import Books
from buyers import Buyers, wishes
from disasters import fill, small_disk_shop
from faults import serves, whole
from rig import World, eventually


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[World]:
    with small_disk_shop(tmp_path) as built:
        yield built


@pytest.mark.timeout(400)
def test_full_disk_loses_no_acknowledged_order_and_heals(shop: World) -> None:
    before = shop.fingerprint()["rules"]
    books = Books.open(shop)
    todo = wishes(600, books.stock, random.Random(1), "full")
    buyers = Buyers(shop.host, todo, clients=6, seed=1)
    buyers.allow(100)
    eventually(lambda: buyers.tally.done >= 100, within_s=60)
    ballast = fill(shop)
    buyers.allow(600)
    time.sleep(5)  # the fault lasts: write-ahead segments fill up, PostgreSQL stops

    for command in ("status", "events", "plan", "up"):
        done = shop.orchestrator(command, *(["--supervise"] if command == "up" else []))
        assert "this is a bug" not in done.text, done.text
        assert "Traceback" not in done.text, done.text
        if command in ("status", "up"):
            assert f"no space left in {shop.state}" in done.err, done.text

    ballast.unlink()
    tally = buyers.join()
    eventually(lambda: whole(shop) and serves(shop), within_s=120)
    assert books.errors(shop, tally, others=True) == []
    assert len(tally.acknowledged) == 600
    assert tally.retries["503"] > 0
    assert tally.retries["502"] == 0  # nobody hangs up, and every answer fits through the edge
    assert shop.fingerprint()["rules"] == before


@pytest.mark.timeout(300)
def test_down_works_on_a_full_disk(shop: World) -> None:
    fill(shop)
    done = shop.orchestrator("down")
    assert done.code == 0, done.text
    assert "this is a bug" not in done.text
    assert shop.sandboxes() == []
    assert "br-app" not in shop.on_host("ip", "link").out
