"""The catalogue: products from PostgreSQL, cached in Redis."""

from __future__ import annotations

from shared.loading import later, loaded

# isort: split
import functools
import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flask import Response, jsonify, request
from shared.database import Connection, Database, Row
from shared.notify import notify
from shared.problem import Problem
from shared.settings import setting
from shared.web import make_app, read_query

if TYPE_CHECKING:
    from shared.cache import Cache

setting("REDIS_HOST")  # who forgot it hears of it now, not with the first request

app = make_app("product-service")
database = Database()

PAGE_SIZE = 50
COLUMNS = "id, sku, name, description, price, stock"
PAGE = f"SELECT {COLUMNS} FROM products ORDER BY id LIMIT $1 OFFSET $2"
TOTAL = "SELECT count(*) AS n FROM products"
ONE = f"SELECT {COLUMNS} FROM products WHERE id = $1"


@functools.cache
def cache() -> Cache:
    """With the first answer that may come from it, or a second after the start, of which loading
    redis would take an eighth."""
    from shared.cache import Cache

    return Cache()


@app.get("/ready")
def ready() -> Response:
    """Whether the database answers; without Redis we are slower, not down."""
    database.run(lambda connection: connection.fetch("SELECT 1"))
    return jsonify(status="ready", service="product-service", database="up")


@app.get("/health/deep")
def deep_health() -> Response:
    """That, and whether Redis answers."""
    database.run(lambda connection: connection.fetch("SELECT 1"))
    redis = "up" if cache().ping() else "down"
    return jsonify(status="ready", service="product-service", database="up", redis=redis)


@app.get("/products")
def products() -> Response:
    limit, offset = PAGE_SIZE, 0
    if request.query_string:
        from product.models import Page

        page = read_query(Page)
        limit, offset = page.limit, page.offset

    def load(connection: Connection) -> bytes:
        rows = connection.fetch(PAGE, limit, offset)
        total = connection.fetchrow(TOTAL)
        count = total["n"] if total else 0
        found = {"products": [public(row) for row in rows], "total": count}
        return encode({**found, "limit": limit, "offset": offset})

    return cached(f"products:{limit}:{offset}", load)


@app.get("/products/<int:number>")
def product(number: int) -> Response:
    def load(connection: Connection) -> bytes:
        row = connection.fetchrow(ONE, number)
        if row is None:
            raise Problem(404, f"there is no product {number}")
        return encode(public(row))

    if number > 2**31 - 1:
        raise Problem(404, f"there is no product {number}")
    return cached(f"product:{number}", load)


def cached(key: str, load: Callable[[Connection], bytes]) -> Response:
    """The answer from the cache; `Cache-Control: no-cache` asks the database itself."""
    if "HTTP_CACHE_CONTROL" in request.environ and request.cache_control.no_cache:
        body, how = database.run(load), "bypass"
    else:
        body, how = cache().through(key, lambda: database.run(load))
    response = app.response_class(body, content_type="application/json", direct_passthrough=True)
    response.headers.add("X-Cache", how)
    return response


def public(row: Row) -> dict[str, Any]:
    """A row as clients see it; prices are numbers with two decimals."""
    price: Decimal = row["price"]
    return {**row, "price": float(price)}


def encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


loaded()
later("product.models", "shared.cache")
notify("READY=1")
