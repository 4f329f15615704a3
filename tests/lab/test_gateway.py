"""What the gateway does itself: sessions and carts, and headers that it does not pass on."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from rig import World

from orchestrator.linux import NETNS_DIR, inside

JSON = ("-H", "Content-Type: application/json")


def test_cart_lives_in_its_session(shop: World) -> None:
    session = shop.curl("http://localhost:8080/api/sessions", "-X", "POST").json()["session_id"]
    header = ("-H", f"X-Session-Id: {session}")
    items = [{"product_id": 1, "quantity": 2}]
    put = ("-X", "PUT", "-d", json.dumps({"items": items}), *JSON, *header)
    assert shop.curl("http://localhost:8080/api/cart", *put).json()["items"] == items
    assert shop.curl("http://localhost:8080/api/cart", *header).json()["items"] == items


def test_more_carts_are_asked_for_at_once_than_redis_has_connections(shop: World) -> None:
    session = shop.curl("http://localhost:8080/api/sessions", "-X", "POST").json()["session_id"]
    asked = f"GET /api/cart HTTP/1.1\r\nHost: localhost\r\nX-Session-Id: {session}\r\n\r\n"
    with contextlib.ExitStack() as opened:
        with inside(NETNS_DIR / shop.host):
            clients = [
                opened.enter_context(socket.create_connection(("127.0.0.1", 8080), 20))
                for _ in range(150)
            ]
        said = set()
        for _ in range(10):
            for each in clients:
                each.sendall(asked.encode())
            said |= {each.recv(1 << 16).partition(b"\r\n")[0] for each in clients}
    assert said == {b"HTTP/1.1 200 OK"}


def test_redis_that_is_restarted_costs_no_cart(shop: World) -> None:
    session = shop.curl("http://localhost:8080/api/sessions", "-X", "POST").json()["session_id"]
    asked = f"GET /api/cart HTTP/1.1\r\nHost: localhost\r\nX-Session-Id: {session}\r\n\r\n"
    with inside(NETNS_DIR / shop.host):
        client = socket.create_connection(("127.0.0.1", 8080), 20)
    said = Counter[bytes]()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            client.sendall(asked.encode())
            said[client.recv(1 << 16).partition(b"\r\n")[0]] += 1

    with client, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            shop.orchestrator("replay", "redis-cache").ok()
        finally:
            done.set()
        asking.result()
    assert said.keys() == {b"HTTP/1.1 200 OK"}, said


def test_trace_of_no_form_is_not_passed_on(shop: World) -> None:
    """Asked of the gateway itself: at the edge the header is replaced."""
    url = "http://10.0.0.20:3000/api/products"
    words = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "traceparent: x", url)
    assert shop.inside("nginx-lb", *words).ok().out == "200"
