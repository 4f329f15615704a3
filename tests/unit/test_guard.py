"""Who may ask the live page: near ones that mean it, and nobody changes anything."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import AsyncIterator
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orchestrator.drawing.graph import Graph
from orchestrator.front.metrics import Metrics
from orchestrator.front.open import bridge_application, listen, local_application
from orchestrator.front.page import Page, Sources
from orchestrator.front.serve import serving
from orchestrator.linux import in_thread


async def nothing() -> Any:
    return {}


def application() -> web.Application:
    sources = Sources(
        about={"lab": "test"}, journal=Path("/nonexistent"), status=nothing,
        graph=lambda: Graph({}, {}), network=nothing,
    )  # fmt: skip
    return local_application(Metrics(), Page(sources).routes())


@contextlib.asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[int]:
    """The port that it is served on, as the supervisor serves it."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with serving(app, [listener]):
        yield port


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with served(application()) as found:
        yield found


def status(port: int, method: str, path: str, headers: dict[str, str]) -> int:
    """By http.client, which sends whatever Host it is told, or none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value.replace("PORT", str(port)))
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


OWN = {"Host": "127.0.0.1:PORT"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/api/about", OWN, 200),
        ("HEAD", "/api/about", OWN, 200),
        ("GET", "/api/about", {"Host": "localhost:PORT"}, 200),
        ("GET", "/api/about", {"Host": "LocalHost.:PORT"}, 200),
        ("GET", "/metrics", OWN, 200),
        ("GET", "/", {**OWN, "Sec-Fetch-Site": "cross-site"}, 200),
        ("GET", "/api/about", {**OWN, "Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", "/api/about", {**OWN, "Origin": "http://127.0.0.1:PORT"}, 200),
        # DNS rebinding: the browser was led here by another name, and says so.
        ("GET", "/api/about", {"Host": "evil.example:PORT"}, 403),
        ("GET", "/api/about", {"Host": "127.0.0.1.evil.example"}, 403),
        ("GET", "/api/about", {"Host": "localhost.evil.example"}, 403),
        ("GET", "/api/about", {"Host": "127.0.0.1@evil.example"}, 403),
        ("GET", "/api/about", {"Host": "evil.example", "X-Forwarded-Host": "localhost"}, 403),
        ("GET", "/", {"Host": "evil.example"}, 403),
        ("GET", "/static/main.js", {"Host": "evil.example"}, 403),
        ("GET", "/metrics", {"Host": "evil.example"}, 403),
        ("GET", "/api/about", {"Host": "10.0.0.1"}, 403),
        ("GET", "/api/about", {"Host": "[::1]:PORT"}, 403),
        ("GET", "/api/about", {"Host": ""}, 403),
        # Another site's page asks from inside of a browser.
        ("GET", "/api/about", {**OWN, "Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/api/about", {**OWN, "Sec-Fetch-Site": "same-site"}, 403),
        ("GET", "/api/events", {**OWN, "Origin": "http://evil.example"}, 403),
        ("GET", "/api/about", {**OWN, "Origin": "null"}, 403),
        ("GET", "/api/about", {**OWN, "Origin": "http://127.0.0.1:1"}, 403),
        ("GET", "/api/about", {**OWN, "Origin": "https://127.0.0.1:PORT"}, 403),
        ("GET", "/", {**OWN, "Origin": "http://evil.example"}, 403),
        # Nothing but reading.
        *((method, path, OWN, 405)
          for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
          for path in ("/", "/api/status", "/metrics")),
        ("FROB", "/", OWN, 400),
        # Out of the page's own directory.
        ("GET", "/static/../page.py", OWN, 404),
        ("GET", "/static/%2e%2e/page.py", OWN, 404),
        ("GET", "/static/..%2fpage.py", OWN, 404),
        ("GET", "/static//etc/passwd", OWN, 404),
        ("GET", "/api/trace/..%2f..%2fetc", OWN, 404),
        ("GET", "/api/runs/" + "a" * 3000, OWN, 404),
        ("GET", "/api/events?after=x", OWN, 400),
        ("GET", "/api/events?last=x", OWN, 400),
        ("GET", "/api/events?last=" + "9" * 5000, OWN, 400),
    ],
)  # fmt: skip
async def test_only_near_ones_read_and_nobody_writes(
    port: int, method: str, path: str, headers: dict[str, str], expected: int
) -> None:
    assert await in_thread(status, port, method, path, headers) == expected


def test_no_route_of_the_page_does_more_than_read() -> None:
    methods = {route.method for route in application().router.routes()}
    assert methods <= {"GET", "HEAD"}


async def test_bridge_serves_metrics_alone_and_to_its_own_network_alone() -> None:
    bridge = bridge_application(Metrics(), IPv4Interface("10.0.0.1/16"))
    assert [r.canonical for r in bridge.router.resources()] == ["/metrics"]
    async with served(bridge) as port:  # whose peer is 127.0.0.1
        host = {"Host": "10.0.0.1"}
        assert await in_thread(status, port, "GET", "/metrics", host) == 403


async def test_answer_names_no_version(port: int) -> None:
    def server_of(path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.putrequest("GET", path)
        if path == "/":
            connection.putheader("Content-Length", "x")  # no HTTP: the application never sees it
        connection.endheaders()
        name = connection.getresponse().headers.get("Server", "")
        connection.close()
        return name

    for path in ("/", "/api/about"):
        assert await in_thread(server_of, path) in ("", "orchestrator")
