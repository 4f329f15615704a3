"""An order whose connection to PostgreSQL breaks at the worst moment, asked of its service."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rig import World

PROGRAM = Path(__file__).with_name("ordering.py")


def ordered(shop: World, how: str) -> list[dict[str, Any]]:
    (secrets,) = shop.state.glob("*/secrets")
    done = shop.inside("order-service", sys.executable, PROGRAM, how, secrets).ok()
    return [json.loads(line) for line in done.out.splitlines()]


def orders_of(shop: World, customer: str) -> list[int]:
    found = shop.curl(f"http://localhost:8080/api/orders?customer_id={customer}").json()
    return sorted(order["order_id"] for order in found["orders"])


def stock(shop: World) -> int:
    return int(shop.curl("http://localhost:8080/api/products/1").json()["stock"])


@pytest.mark.parametrize("how", ["lose", "tell"])
def test_order_without_a_key_is_made_once_when_its_server_goes(shop: World, how: str) -> None:
    before = stock(shop)
    said = ordered(shop, how)
    assert [each["status"] for each in said] == [201, 201, 201]
    assert orders_of(shop, how) == [each["body"]["order_id"] for each in said]
    assert stock(shop) == before - 3


def test_database_that_answers_no_more_is_given_up(shop: World) -> None:
    first, held, last = ordered(shop, "hold")
    assert (first["status"], last["status"]) == (201, 201)
    assert held["status"] == 503, held
    assert held["body"]["detail"]
    assert {first["body"]["order_id"], last["body"]["order_id"]} <= {*orders_of(shop, "hold")}
