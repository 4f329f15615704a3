"""What the edge says of a request's route without asking is what the gateway would say."""

from __future__ import annotations

import re
import sys

import pytest
from rig import ROOT, run

CONFIGURATION = ROOT / "services/edge/nginx.conf"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
PATHS = (
    *("/api/products", "/api/products/", "/api/products/7", "/api/products/0", "/api/products/x"),
    *("/api/products/7/", "/api/products/7a", f"/api/products/{10**18}", f"/api/products/{10**19}"),
    *("/api/orders", "/api/orders/", "/api/orders/12", "/api/orders/-1", "//api/products"),
    *("/api/product", "/api/productss", "/API/products", "/api/cart", "/api/sessions"),
    *("/api/health", "/api/openapi.json", "/", "/x", "/api/%70roducts", "/api/products/%37"),
)
ASK = f"""
import asyncio, json
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from gateway.app import ROUTES
async def main():
    app = web.Application()
    app.add_routes(ROUTES)
    found = []
    for method in {METHODS}:
        for path in {PATHS}:
            match = await app.router.resolve(make_mocked_request(method, path))
            resource = match.route.resource
            found.append((method, path, resource.canonical if resource else "other"))
    print(json.dumps(found))
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def told_by_gateway() -> dict[tuple[str, str], str]:
    """Route of each method and path."""
    settings = {"PYTHONPATH": str(ROOT / "services"), "REDIS_HOST": "r",
                "PRODUCT_URL": "http://p", "ORDER_URL": "http://o"}  # fmt: skip
    found = run(sys.executable, "-c", ASK, env=settings).json()
    return {(method, path): route for method, path, route in found}


def known_routes() -> dict[str, str]:
    """The edge's map: route by expression."""
    text = CONFIGURATION.read_text()
    (body,) = re.findall(r"map \$request_method\$asked \$known_route \{\n(.*?)\n    \}", text, re.S)
    rows = [line.strip().rstrip(";").split() for line in body.splitlines() if "#" not in line]
    found = {key.strip('"'): value.strip('"') for key, value in rows if key != "default"}
    # nginx would compare anything else without regard to case.
    assert all(key.startswith("~^") for key in found)
    return {key[1:]: route for key, route in found.items()}


def known_route(method: str, path: str) -> str | None:
    asked = method + path
    return next((r for pattern, r in known_routes().items() if re.search(pattern, asked)), None)


def test_edge_says_what_the_gateway_would_or_asks_it(
    told_by_gateway: dict[tuple[str, str], str],
) -> None:
    wrong = {
        asked: (known, told)
        for asked, told in told_by_gateway.items()
        if (known := known_route(*asked)) not in (None, told)
    }
    assert wrong == {}


def test_most_frequent_requests_cost_the_gateway_no_question() -> None:
    asked = ("/api/products", "/api/products/7", "/api/orders/7")
    assert all(known_route("GET", path) for path in asked)
    assert known_route("POST", "/api/orders")
