"""The textbook catalogue: JSON in Redis for a minute, else from the database."""

from __future__ import annotations

import json
import os

import redis
from common import query, secret, serve
from flask import Flask, Response, jsonify

app = Flask("product-service")
COLUMNS = "id, sku, name, description, price::float, stock"


def cache() -> redis.Redis:
    return redis.Redis(
        os.environ["REDIS_HOST"],
        username=os.environ["REDIS_USER"],
        password=secret("REDIS_PASSWORD_FILE"),
    )


@app.get("/ready")
def ready() -> Response:
    query("SELECT 1")
    return jsonify(status="ready")


@app.get("/products")
def products() -> Response:
    known = cache().get("textbook:products")
    if known:
        return jsonify(json.loads(known))
    found = query(f"SELECT {COLUMNS} FROM products ORDER BY id LIMIT 50")
    answer = {"products": found, "total": query("SELECT count(*) AS n FROM products")[0]["n"]}
    cache().set("textbook:products", json.dumps(answer), ex=60)
    return jsonify(answer)


@app.get("/products/<int:number>")
def product(number: int) -> tuple[Response, int]:
    found = query(f"SELECT {COLUMNS} FROM products WHERE id = %s", (number,))
    return (jsonify(found[0]), 200) if found else (jsonify(error="no such product"), 404)


serve(app, 5000)
