"""Orders whose service comes to them when their answers would be too late."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

from books import query
from faults import program
from rig import World


def test_order_that_nobody_waits_for_any_more_is_not_made(shop: World) -> None:
    body = json.dumps({"customer_id": "late", "product_id": 1, "quantity": 1})
    words = ("-H", "Content-Type: application/json", "-d", body, "-o", "/dev/null")

    def order(_: int) -> str:
        url = "http://localhost:8080/api/orders"
        return shop.curl(url, "--max-time", "30", "-w", "%{http_code}", *words).ok().out

    pid = program(shop, "order-service")
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(order, range(4)))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert said == ["504"] * 4
    # Behind those: they would wait for the same product's row.
    assert [order(number) for number in range(5)] == ["201"] * 5
    made = query(shop, "SELECT count(*) FROM orders WHERE customer_id = 'late'")
    assert made == [["5"]]
