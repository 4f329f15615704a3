"""A client that uses the whole of the shop."""

from __future__ import annotations

from rig import World


def every_route(lab: World) -> None:
    """Every route of the shop, answered well and badly."""
    json = ("-H", "Content-Type: application/json")
    api = "http://localhost:8080/api"
    session = lab.curl(f"{api}/sessions", "-X", "POST", *json, "-d", "{}").json()["session_id"]
    mine = ("-H", f"X-Session-Id: {session}")
    order = '{"customer_id": 1, "product_id": 4, "quantity": 1}'
    for words in (
        ["http://localhost:8080/"],
        ["http://localhost:8080/health"],
        [f"{api}/health"],
        [f"{api}/products"],
        [f"{api}/products", "-H", "Cache-Control: no-cache"],
        [f"{api}/products", "-X", "DELETE"],
        [f"{api}/products/1"],
        [f"{api}/products/999999"],
        [f"{api}/orders", *json, "-d", order],
        [f"{api}/orders", *json, "-d", "{}"],
        [f"{api}/orders?customer_id=1"],
        [f"{api}/orders/1"],
        [f"{api}/orders/999999"],
        [f"{api}/cart", *mine],
        [f"{api}/cart", *mine, *json, "-X", "PUT", "-d", '{"items": []}'],
        [f"{api}/cart"],
        [f"{api}/nothing"],
        ["http://localhost:8080/", "-X", "BREW"],
    ):
        lab.curl(*words).ok()
