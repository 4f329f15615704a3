"""A full disk: orders are refused, not lost; everything says so, and heals when there is room."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from books import Books
from buyers import Buyers, wishes
from disasters import fill, small_disk_shop
from faults import serves, whole
from rig import World, eventually, run


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


FILLING = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  one:
    networks: {br-app: 10.0.0.10}
    command: [sleep, "1000"]
    data: [/data]
    needs: [filling]
jobs:
  filling:
    of: one
    network: false
    command: [sh, -c, "cat /dev/zero > /data/big 2> /dev/null"]
    retry: {attempts: 1}
"""


def test_disk_that_a_job_fills_is_named_as_the_cause(
    world: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(FILLING)
    world.state.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", world.state).ok()
    try:
        up = world.orchestrator("up", stack=stack)
        why = world.orchestrator("why", stack=stack)
        world.orchestrator("down", "--volumes", stack=stack).ok()
    finally:
        run("umount", "--lazy", world.state).ok()
    assert up.code == why.code == 1
    full = f"no space left in {world.state / f'tiny@{world.host}'}"
    assert f"the cause may be: {full}" in up.err
    assert "job:filling failed" in up.err.partition("the cause may be")[0]
    conclusion = why.out.partition("first broken layer: ")[2]
    assert conclusion.startswith("job of job:filling: ")
    assert full in conclusion.splitlines()[0]
    assert "mend: make room there" in conclusion
