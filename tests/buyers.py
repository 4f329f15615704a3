"""Buyers: concurrent clients that order with Idempotency-Keys until each order is answered.

They live in threads that have entered the lab's host, and send the same key again after every
failure or timeout, as a careful client does.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from orchestrator import linux

REQUEST_TIMEOUT_S = 20.0
GIVE_UP_S = 180.0  # an order that has no answer by then counts as hanging
PAUSES_S = (0.05, 0.5)


@dataclass(frozen=True, slots=True)
class Wish:
    """One order to be made."""

    key: str
    product: int
    quantity: int


@dataclass
class Tally:
    """What became of the wishes. Appending to lists and counting is done under the lock."""

    acknowledged: dict[str, tuple[int, Wish]] = field(default_factory=dict)  # key → order id
    refused: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    retries: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # from the first try to the answer
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def done(self) -> int:
        return len(self.acknowledged) + len(self.refused) + len(self.unanswered)


def wishes(count: int, stock: dict[int, int], rng: random.Random, prefix: str) -> list[Wish]:
    """Products by their stock, so that most of it is sold and some of it runs out."""
    products, weights = list(stock), [max(1, left) for left in stock.values()]
    chosen = rng.choices(products, weights, k=count)
    return [Wish(f"{prefix}-{n}", product, 1) for n, product in enumerate(chosen)]


class Buyers:
    """Starts at once; `join` returns when every wish has its answer."""

    def __init__(self, host: str, todo: list[Wish], *, clients: int, seed: int) -> None:
        self.tally = Tally()
        self._host, self._todo = host, list(reversed(todo))
        self._total, self._allowed = len(todo), 0
        self._threads = [
            threading.Thread(target=self._buy, args=(random.Random(seed * 1000 + n),))
            for n in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> Tally:
        for thread in self._threads:
            thread.join()
        return self.tally

    def allow(self, count: int) -> None:
        """So many orders may be begun, counted from the start."""
        self._allowed = min(count, self._total)

    def _buy(self, rng: random.Random) -> None:
        namespace = os.open(f"/run/netns/{self._host}", os.O_RDONLY)
        linux.setns(namespace)
        os.close(namespace)
        while True:
            with self.tally.lock:
                if not self._todo:
                    return
                may = self._total - len(self._todo) < self._allowed
                wish = self._todo.pop() if may else None
            if wish is None:
                time.sleep(0.005)
                continue
            self._until_answered(wish, rng)

    def _until_answered(self, wish: Wish, rng: random.Random) -> None:
        tally, begun_s = self.tally, time.monotonic()
        while time.monotonic() < begun_s + GIVE_UP_S:
            status, body = _post(wish)
            with tally.lock:
                if status == "201":
                    tally.acknowledged[wish.key] = (int(json.loads(body)["order_id"]), wish)
                elif status in ("409", "422"):
                    tally.refused.append(wish.key)
                else:
                    tally.retries[status] += 1
                    status = ""
                if status:
                    tally.seconds.append(time.monotonic() - begun_s)
                    return
            time.sleep(rng.uniform(*PAUSES_S))
        with tally.lock:
            tally.unanswered.append(wish.key)


def _post(wish: Wish) -> tuple[str, bytes]:
    """The status, or the name of the error, and the body."""
    order = {"customer_id": "chaos", "product_id": wish.product, "quantity": wish.quantity}
    headers = {"Content-Type": "application/json", "Idempotency-Key": wish.key}
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=REQUEST_TIMEOUT_S)
    try:
        connection.request("POST", "/api/orders", json.dumps(order), headers)
        answer = connection.getresponse()
        return str(answer.status), answer.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, b""
    finally:
        connection.close()
