"""A Redis that hangs, and one that cannot be reached while stock changes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator

import pytest
from faults import program
from rig import World, eventually

ONE = "http://localhost:8080/api/products/1"


@contextlib.contextmanager
def hanging(shop: World) -> Iterator[None]:
    pid = program(shop, "redis-cache")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def cut_off(shop: World) -> Iterator[None]:
    shop.on_host("ip", "link", "set", "veth-redis-br", "down").ok()
    try:
        yield
    finally:
        shop.on_host("ip", "link", "set", "veth-redis-br", "up").ok()


def calls_of_redis(shop: World) -> list[str]:
    """Of one request for a product, asked of its service itself."""
    words = ("curl", "-s", "-D", "-", "-o", "/dev/null", "-H", "X-Hop-Sent: 1")
    said = shop.inside("api-gateway", *words, "http://10.0.0.30:5000/products/1").ok().out
    head, *lines = said.splitlines()
    assert head.split()[1] == "200", said
    (hops,) = (line for line in lines if line.lower().startswith("x-hop:"))
    return [call for call in hops.split(";") if ">redis-cache," in call]


def order_one(shop: World) -> None:
    body = json.dumps({"customer_id": "cache-away", "product_id": 1, "quantity": 1})
    words = ("-H", "Content-Type: application/json", "-d", body)
    said = shop.curl("http://localhost:8080/api/orders", *words).json()
    assert said["status"] == "created", said


def stock(shop: World) -> int:
    return int(shop.curl(ONE).json()["stock"])


def test_redis_that_hangs_is_waited_for_once(shop: World) -> None:
    """Then not asked for a while: requests do not wait for it one after the other."""
    before = stock(shop)
    with hanging(shop):
        asked = [calls_of_redis(shop) for _ in range(12)]
        order_one(shop)
        assert stock(shop) == before - 1
    assert asked[0]
    assert all(",error," in call for calls in asked for call in calls), asked
    assert [] in asked
    eventually(lambda: any(",ok," in call for call in calls_of_redis(shop)))
    eventually(lambda: stock(shop) == before - 1)


@pytest.mark.parametrize("ends", [False, True], ids=["it stays", "it is replaced"])
def test_stock_that_changed_while_redis_was_away_is_seen_when_it_is_back(
    shop: World, ends: bool
) -> None:
    """Whether or not the service that changed it is still the same."""
    shop.orchestrator("replay", "order-service").ok()  # no connection that could be left over
    before = stock(shop)
    with cut_off(shop):
        order_one(shop)
        if ends:
            shop.orchestrator("replay", "order-service").ok()
    eventually(lambda: stock(shop) == before - 1)  # before what was cached ends by itself
