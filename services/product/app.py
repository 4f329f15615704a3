"""The catalogue: products from PostgreSQL, cached in Redis."""

from __future__ import annotations

from shared.loading import later, loaded

# isort: split
import json
from decimal import Decimal
from typing import Any

from flask import Response, jsonify, request
from shared.cache import Cache
from shared.database import Connection, Database
from shared.notify import notify
from shared.problem import Problem
from shared.web import make_app, read_query

app = make_app("product-service")
database = Database()
cache = Cache()

PAGE_SIZE = 50
COLUMNS = "id, sku, name, description, price, stock"
PAGE = f"SELECT {COLUMNS} FROM products ORDER BY id LIMIT %s OFFSET %s"
TOTAL = "SELECT count(*) AS n FROM products"
ONE = f"SELECT {COLUMNS} FROM products WHERE id = %s"


@app.get("/ready")
def ready() -> Response:
    """Whether the database answers; without Redis we are slower, not down."""
    database.run(lambda connection: connection.execute("SELECT 1"))
    redis = "up" if cache.ping() else "down"
    return jsonify(status="ready", service="product-service", database="up", redis=redis)


@app.get("/products")
def products() -> Response:
    limit, offset = PAGE_SIZE, 0
    if request.query_string:
        from product.models import Page

        page = read_query(Page)
        limit, offset = page.limit, page.offset

    def load(connection: Connection) -> bytes:
        rows = connection.execute(PAGE, (limit, offset)).fetchall()
        total = connection.execute(TOTAL).fetchone()
        count = total["n"] if total else 0
        found = {"products": [public(row) for row in rows], "total": count}
        return encode({**found, "limit": limit, "offset": offset})

    return cached(f"products:{limit}:{offset}", load)


@app.get("/products/<int:number>")
def product(number: int) -> Response:
    def load(connection: Connection) -> bytes:
        row = connection.execute(ONE, (number,)).fetchone()
        if row is None:
            raise Problem(404, f"there is no product {number}")
        return encode(public(row))

    if number > 2**31 - 1:
        raise Problem(404, f"there is no product {number}")
    return cached(f"product:{number}", load)


def cached(key: str, load: Any) -> Response:
    """The answer from the cache; `Cache-Control: no-cache` asks the database itself."""
    bypass = "HTTP_CACHE_CONTROL" in request.environ and bool(request.cache_control.no_cache)
    body, how = cache.through(key, lambda: database.run(load), bypass=bypass)
    response = app.response_class(body, content_type="application/json", direct_passthrough=True)
    response.headers.add("X-Cache", how)
    return response


def public(row: dict[str, Any]) -> dict[str, Any]:
    """A row as clients see it; prices are numbers with two decimals."""
    price: Decimal = row["price"]
    return {**row, "price": float(price)}


def encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


loaded()
later("product.models")
notify("READY=1")
