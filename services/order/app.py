"""Orders: one transaction takes the stock and writes the order, once for each key."""

from __future__ import annotations

from shared.loading import later, loaded

# isort: split
import functools
import hashlib
import os
from typing import TYPE_CHECKING, Any

import asyncpg
from flask import Response, jsonify, request
from shared.database import Connection, Database, Row
from shared.notify import notify
from shared.problem import Problem
from shared.settings import setting
from shared.web import make_app, read_body, read_query

if TYPE_CHECKING:
    from order.models import NewOrder
    from shared.cache import Cache

setting("REDIS_HOST")  # who forgot it hears of it now, not with the first order

app = make_app("order-service")
database = Database()

COLUMNS = "id AS order_id, customer_id, product_id, quantity, total_price, status, created_at"
ONE = f"SELECT {COLUMNS} FROM orders WHERE id = $1"
PAGE = f"SELECT {COLUMNS} FROM orders WHERE customer_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
KNOWN = "SELECT id, fingerprint FROM orders WHERE idempotency_key = $1"
PRICED = "SELECT stock, price * $2::integer AS total FROM products WHERE id = $1"


@app.get("/ready")
def ready() -> Response:
    """Whether the database answers."""
    database.run(lambda connection: connection.fetch("SELECT 1"))
    return jsonify(status="ready", service="order-service", database="up")


@app.post("/orders")
def create() -> tuple[Response, int, dict[str, str]]:
    from order.models import NewOrder

    order = read_body(NewOrder)
    key = request.headers.get("Idempotency-Key")
    if key is None:
        key = os.urandom(16).hex()  # we ourselves ask again when the database goes meanwhile
    elif not (0 < len(key) <= 128 and key.isprintable()):
        raise Problem(400, "Idempotency-Key must be 1 to 128 printable characters")
    fingerprint = hashlib.sha256(order.model_dump_json().encode()).digest()

    try:
        number, is_new = database.run(
            lambda connection: _place(connection, order, key, fingerprint)
        )
    except asyncpg.UniqueViolationError:
        # Another request with this key came first; its transaction is done by now.
        number, is_new = database.run(lambda c: (_known(c, key, fingerprint) or 0, False))
    _cache().invalidate()  # once more if it is known: we may have been ended before this
    headers = {"Location": f"/api/orders/{number}"}
    if not is_new:
        headers["Idempotent-Replayed"] = "true"
    return jsonify(order_id=number, status="created"), 201, headers


@functools.cache
def _cache() -> Cache:
    """From the first order on: redis takes a tenth of our start, and nobody waits for it."""
    from shared.cache import Cache

    return Cache()


def _known(connection: Connection, key: str, fingerprint: bytes) -> int | None:
    """The order that was made with this key. Raises Problem if it was another request's."""
    row = connection.fetchrow(KNOWN, key)
    if row is None:
        return None
    if row["fingerprint"] != fingerprint:
        raise Problem(422, "this Idempotency-Key was used for another request")
    return int(row["id"])


# The whole order in one statement, which is one transaction, one round trip and one wait for
# the disk. The product's row is locked from the UPDATE on: orders for one product queue there.
# $1 customer_id, $2 product_id, $3 quantity, $4 total_price or NULL, $5 key, $6 fingerprint
PLACE = """
WITH taken AS (
    UPDATE products SET stock = stock - $3
    WHERE id = $2 AND stock >= $3
      AND ($4::numeric IS NULL OR price * $3 = $4)
      AND NOT EXISTS (SELECT FROM orders WHERE idempotency_key = $5)
    RETURNING price * $3 AS total
)
INSERT INTO orders
    (customer_id, product_id, quantity, total_price, idempotency_key, fingerprint)
SELECT $1, $2, $3, total, $5, $6 FROM taken
RETURNING id
"""


def _place(
    connection: Connection, order: NewOrder, key: str, fingerprint: bytes
) -> tuple[int, bool]:
    """Takes the stock and writes the order, or finds the one that was made with this key.

    Raises Problem 404, 409 or 422, asyncpg.UniqueViolationError.
    """
    what = (order.customer_id, order.product_id, order.quantity, order.total_price)
    made = connection.fetchrow(PLACE, *what, key, fingerprint)
    if made is not None:
        return int(made["id"]), True
    # Also when a twin with our key took the last of it while we waited for the lock.
    if known := _known(connection, key, fingerprint):
        return known, False
    raise _refusal(connection, order)


def _refusal(connection: Connection, order: NewOrder) -> Problem:
    row = connection.fetchrow(PRICED, order.product_id, order.quantity)
    if row is None:
        return Problem(404, f"there is no product {order.product_id}")
    if row["stock"] >= order.quantity and order.total_price not in (None, row["total"]):
        return Problem(422, f"total_price is {order.total_price}, but it costs {row['total']}")
    return Problem(409, f"only {row['stock']} in stock", available=row["stock"])


@app.get("/orders/<int:number>")
def order(number: int) -> Response:
    row = None
    if number < 2**63:
        row = database.run(lambda connection: connection.fetchrow(ONE, number))
    if row is None:
        raise Problem(404, f"there is no order {number}")
    return jsonify(public(row))


@app.get("/orders")
def orders() -> Response:
    from order.models import OrderQuery

    query = read_query(OrderQuery)
    rows = database.run(
        lambda connection: connection.fetch(
            PAGE, query.customer_id, query.cursor or 2**63 - 1, query.limit + 1
        )
    )
    page = rows[: query.limit]
    more = page[-1]["order_id"] if len(rows) > query.limit else None
    return jsonify(orders=[public(row) for row in page], next_cursor=more)


def public(row: Row) -> dict[str, Any]:
    """A row as clients see it."""
    price, at = float(row["total_price"]), row["created_at"].isoformat()
    return {**row, "total_price": price, "created_at": at}


loaded()
# Whoever was here before us may have been ended between an order and this.
later("order.models", "shared.cache", then=lambda: _cache().invalidate())
notify("READY=1")
