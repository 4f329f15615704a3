"""The textbook gateway: each request is one of its own to the service behind."""

from __future__ import annotations

import os

import requests
from common import serve
from flask import Flask, Response, jsonify, request

app = Flask("api-gateway")
PRODUCTS, ORDERS = os.environ["PRODUCT_URL"], os.environ["ORDER_URL"]


def passed_back(answer: requests.Response) -> Response:
    return Response(answer.content, answer.status_code, content_type="application/json")


@app.get("/health")
def health() -> Response:
    return jsonify(status="healthy", service="api-gateway")


@app.get("/api/products")
def products() -> Response:
    return passed_back(requests.get(f"{PRODUCTS}/products", timeout=10))


@app.get("/api/products/<int:number>")
def product(number: int) -> Response:
    return passed_back(requests.get(f"{PRODUCTS}/products/{number}", timeout=10))


@app.post("/api/orders")
def create() -> Response:
    return passed_back(requests.post(f"{ORDERS}/orders", json=request.get_json(), timeout=10))


serve(app, 3000)
