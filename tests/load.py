"""Constant load on the shop until standard input closes: orders and products by turns.

Prints one JSON object: how often each status came, what went wrong, which orders were
acknowledged. Bounded by count, so that it ends by itself.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections import Counter

LIMIT = 200_000
BODY = json.dumps({"customer_id": "load", "product_id": 4, "quantity": 1})


def client(stop: threading.Event, codes: Counter[str], orders: list[int], clients: int) -> None:
    for number in range(LIMIT // clients):
        if stop.is_set():
            return
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=20)
            if number % 2:
                connection.request("GET", "/api/products/1", headers={"Cache-Control": "no-cache"})
            else:
                connection.request(
                    "POST", "/api/orders", BODY, {"Content-Type": "application/json"}
                )
            answer = connection.getresponse()
            body = answer.read()
            codes[str(answer.status)] += 1
            if answer.status == 201:
                orders.append(json.loads(body)["order_id"])
            connection.close()
        except OSError as error:
            codes[f"{type(error).__name__}: {error}"] += 1


def main() -> None:
    clients = int(sys.argv[1])
    stop = threading.Event()
    codes: Counter[str] = Counter()
    orders: list[int] = []
    threads = [
        threading.Thread(target=client, args=(stop, codes, orders, clients)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    json.dump({"codes": codes, "orders": sorted(orders)}, sys.stdout)


if __name__ == "__main__":
    main()
