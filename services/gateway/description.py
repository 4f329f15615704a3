"""The API's own description, OpenAPI 3.1: written in openapi.yaml, served as JSON."""

from __future__ import annotations

import asyncio
import functools
import json
from pathlib import Path
from typing import Any

from aiohttp import web

FILE = Path(__file__).with_name("openapi.yaml")


def load() -> dict[str, Any]:
    import yaml  # it costs 20 ms, and the start of the platform waits for the gateway

    document: dict[str, Any] = yaml.load(FILE.read_text(encoding="utf-8"), yaml.CSafeLoader)
    # Names for repeated parts mean nothing to a reader of the whole.
    return {key: value for key, value in document.items() if key[:2] != "x-"}


@functools.cache
def as_json() -> bytes:
    return json.dumps(load(), separators=(",", ":")).encode()


INDEX = {
    "health": "/health",
    "products": "/api/products",
    "orders": "/api/orders",
    "openapi": "/api/openapi.json",
}


async def index(_: web.Request) -> web.Response:
    """Where to go from here."""
    return web.json_response(INDEX)


async def serve(_: web.Request) -> web.Response:
    body = await asyncio.to_thread(as_json)
    return web.Response(body=body, content_type="application/json")
