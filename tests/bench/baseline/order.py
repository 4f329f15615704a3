"""The textbook order: ask for the product, take its stock, write the order."""

from __future__ import annotations

import os

import redis
import requests
from common import query, secret, serve
from flask import Flask, Response, jsonify, request

app = Flask("order-service")
PRODUCTS = os.environ["PRODUCT_URL"]


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


@app.post("/orders")
def create() -> tuple[Response, int]:
    wanted = request.get_json()
    answer = requests.get(f"{PRODUCTS}/products/{wanted['product_id']}", timeout=10)
    if answer.status_code != 200:
        return jsonify(error="no such product"), 404
    taken = query(
        "UPDATE products SET stock = stock - %s WHERE id = %s AND stock >= %s RETURNING id",
        (wanted["quantity"], wanted["product_id"], wanted["quantity"]),
    )
    if not taken:
        return jsonify(error="out of stock"), 409
    made = query(
        "INSERT INTO orders (customer_id, product_id, quantity, total_price, fingerprint)"
        " VALUES (%s, %s, %s, %s, '') RETURNING id",
        (
            str(wanted["customer_id"]),
            wanted["product_id"],
            wanted["quantity"],
            answer.json()["price"] * wanted["quantity"],
        ),
    )
    cache().delete("textbook:products")
    return jsonify(order_id=made[0]["id"], status="created"), 201


serve(app, 5000)
