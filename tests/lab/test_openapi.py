"""The API's description is what the platform does: every route, every answer, found by asking
for it and by fuzzing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from raw import Answer, ask, connect
from rig import ROOT, World, run

EDGE = ("127.0.0.1", 8080)
FUZZED = ROOT / "tests" / "schemathesis.toml"
# Answers of a platform that is slow, overloaded or broken: test_edge.py, test_recovery and the
# chaos tests meet them, and the shape is the same.
NOT_HERE = {"408", "414", "429", "502", "503", "504"}


@pytest.fixture(scope="module")
def description(shop: World) -> dict[str, Any]:
    found: dict[str, Any] = shop.curl("http://localhost:8080/api/openapi.json").json()
    return found


def send(shop: World, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Host": "x", **{key.replace("_", "-"): value for key, value in headers.items()}}
    if body is not None:
        lines = {"Content-Type": "application/json", "Content-Length": str(len(data)), **lines}
    head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
    with connect(shop, "", EDGE) as connection:
        answer = ask(connection, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
    assert answer is not None
    return answer


def test_every_route_is_described_and_nothing_else(description: dict[str, Any]) -> None:
    """By the gateway's own table."""
    table = "[(route.method, route.path) for route in ROUTES]"
    code = f"from gateway.app import ROUTES; import json; print(json.dumps({table}))"
    settings = {"PYTHONPATH": str(ROOT / "services"), "REDIS_HOST": "r",
                "PRODUCT_URL": "http://p", "ORDER_URL": "http://o"}  # fmt: skip
    routes = run(sys.executable, "-c", code, env=settings).json()
    real = {
        (method, re.sub(r"\{(\w+):[^/]*\}", r"{\1}", path))
        for method, path in routes
        if method != "OPTIONS"
    }
    described = {
        (method.upper(), path)
        for path, item in description["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert described == real


def order(**changes: Any) -> dict[str, Any]:
    return {"customer_id": "api", "product_id": 4, "quantity": 1, **changes}


def answers(shop: World) -> dict[tuple[str, str], list[Answer]]:
    """Each operation asked for everything that it is said to answer."""
    session = json.loads(send(shop, "POST", "/api/sessions").body)["session_id"]
    own = {"X_Session_Id": session}
    cart = {"items": [{"product_id": 1, "quantity": 2}]}
    wrong: list[tuple[Any, dict[str, str]]] = [
        (b"{", {}), ({}, {"Content_Type": "text/plain"}), ({"no": 1}, {}),
        (b"{}", {"Content_Length": "70000"}), ({}, {"Content_Encoding": "gzip"}),
        (b'{"a": 1, "a": 1}', {}),
    ]  # fmt: skip

    def get(path: str, **headers: str) -> Answer:
        return send(shop, "GET", path, **headers)

    first = send(shop, "POST", "/api/orders", order(), Idempotency_Key="api-1")
    number = json.loads(first.body)["order_id"]
    return {
        ("get", "/"): [get("/"), get("/?a=b")],
        ("get", "/health"): [get("/health")],
        ("get", "/api/health"): [get("/api/health"), get("/api/health", Bad__="x" * 9000)],
        ("get", "/api/openapi.json"): [get("/api/openapi.json")],
        ("get", "/api/products"): [
            get("/api/products"), get("/api/products?limit=2&offset=1"),
            get("/api/products?limit=0"), get("/api/products?colour=red"),
        ],
        ("get", "/api/products/{id}"): [
            get("/api/products/1"), get("/api/products/999999"), get("/api/products/x"),
            get("/api/products/" + "9" * 19), get("/api/products/" + "9" * 5000),
            get("/api/products/%D9%A3"),
        ],
        ("get", "/api/orders"): [
            get("/api/orders?customer_id=api"), get("/api/orders?customer_id=api&limit=1"),
            get("/api/orders"), get("/api/orders?customer_id=api&cursor=0"),
        ],
        ("post", "/api/orders"): [
            first,
            send(shop, "POST", "/api/orders", order(), Idempotency_Key="api-1"),
            send(shop, "POST", "/api/orders", order(quantity=2), Idempotency_Key="api-1"),
            send(shop, "POST", "/api/orders", order(quantity=2.0, customer_id=7)),
            send(shop, "POST", "/api/orders", order(product_id=999_999)),
            send(shop, "POST", "/api/orders", order(product_id=1, quantity=10_000)),
            send(shop, "POST", "/api/orders", order(total_price=0.01)),
            send(shop, "POST", "/api/orders", order(), Idempotency_Key="k" * 129),
            *(send(shop, "POST", "/api/orders", body, **headers) for body, headers in wrong),
        ],
        ("get", "/api/orders/{id}"): [
            get(f"/api/orders/{number}"), get("/api/orders/99999999"), get("/api/orders/-1"),
        ],
        ("post", "/api/sessions"): [
            send(shop, "POST", "/api/sessions"), send(shop, "POST", "/api/sessions", {}),
            send(shop, "POST", "/api/sessions", {"customer_id": "1" * 65}),
            *(send(shop, "POST", "/api/sessions", body, **headers) for body, headers in wrong),
        ],
        ("get", "/api/cart"): [
            get("/api/cart"), get("/api/cart", X_Session_Id="unknown"),
            get("/api/cart", X_Session_Id="../../etc/passwd"), get("/api/cart", **own),
            get("/api/cart", Cookie=f"session={session}"),
        ],
        ("put", "/api/cart"): [
            send(shop, "PUT", "/api/cart", cart), send(shop, "PUT", "/api/cart", cart, **own),
            *(send(shop, "PUT", "/api/cart", body, **own, **headers) for body, headers in wrong),
        ],
    }  # fmt: skip


def resolved(description: dict[str, Any], value: Any) -> Any:
    while "$ref" in value:
        name = value["$ref"].removeprefix("#/")
        value = description
        for part in name.split("/"):
            value = value[part]
    return value


def check(description: dict[str, Any], responses: dict[str, Any], answer: Answer) -> None:
    """The answer against what is said of its status: type, headers, body."""
    response = resolved(description, responses[str(answer.status)])
    for name, header in response.get("headers", {}).items():
        header, value = resolved(description, header), answer.headers.get(name.lower())
        assert value is not None or not header.get("required"), name
        if value is not None:
            jsonschema.validate(value, header["schema"])
    kind = answer.headers["content-type"].split(";")[0]
    schema = response["content"][kind]["schema"]
    body = json.loads(answer.body) if kind.endswith("json") else answer.body.decode()
    whole = {**schema, "components": description["components"]}
    jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker()).validate(body)
    if kind == "application/problem+json":
        assert body["status"] == answer.status


def test_answers_are_as_described_and_every_described_one_is_met(
    shop: World, description: dict[str, Any]
) -> None:
    missing = []
    found = answers(shop)
    assert found.keys() == {
        (method, path)
        for path, item in description["paths"].items()
        for method in item
        if method != "parameters"
    }
    for (method, path), given in found.items():
        responses = description["paths"][path][method]["responses"]
        for answer in given:
            assert str(answer.status) in responses, (method, path, answer)
            check(description, responses, answer)
        met = {str(answer.status) for answer in given}
        # A request without a body is refused for its form by the edge alone, in the same way
        # wherever it goes.
        ubiquitous = NOT_HERE if "requestBody" in description["paths"][path][method] else {
            *NOT_HERE, "400"}  # fmt: skip
        missing += [(method, path, each) for each in responses.keys() - met - ubiquitous]
    assert missing == []


def test_method_that_is_not_there_is_told_which_are(
    shop: World, description: dict[str, Any]
) -> None:
    for path, item in description["paths"].items():
        if path == "/health":
            continue  # the edge's own
        answer = send(shop, "DELETE", path.replace("{id}", "1"))
        assert answer.problem()["status"] == 405
        allowed = set(answer.headers["allow"].split(",")) - {"OPTIONS", "HEAD"}
        assert allowed == {method.upper() for method in item if method != "parameters"}


@pytest.mark.timeout(240)
def test_fuzzing_finds_no_error_and_no_untruth(shop: World, tmp_path: Path) -> None:
    """Everything that schemathesis checks, valid and invalid input by turns, by a fixed seed."""
    session = json.loads(send(shop, "POST", "/api/sessions").body)["session_id"]
    words = [Path(sys.executable).with_name("schemathesis"), "--config-file", FUZZED, "run"]
    done = subprocess.run(
        ["ip", "netns", "exec", shop.host, *words, "http://localhost:8080/api/openapi.json"],
        env={**os.environ, "SESSION": session},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated
    assert int(generated[1]) > 300, "it hardly fuzzed"
    for log in (shop.state / f"shop@{shop.host}" / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log
