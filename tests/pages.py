"""A page without a lab: the real server and its static files, over facts that are made up.

For what only others can measure (the request path) and for what no lab should be broken for.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.front.ports import LOOPBACK, listen

from orchestrator.drawing.graph import READY, Graph
from orchestrator.drawing.network import Network
from orchestrator.events import Action, Outcome, Record, RunFinished, RunStarted, StepFinished
from orchestrator.front.page import Page, Sources
from orchestrator.front.serve import serving
from orchestrator.sights.journal import Journal

GRAPH = Graph(
    {"bridge:br": "bridge", "service:one": "data", "service:two": "edge"},
    {
        "bridge:br": {},
        "service:one": {"bridge:br": READY},
        "service:two": {"service:one": READY, "bridge:br": READY},
    },
)

HOPS = {
    "nginx-lb": (0.21, 0.18, 0.44, 0.9),
    "api-gateway": (1.13, 0.98, 2.4, 4.1),
    "product-service": (1.92, 1.7, 3.6, 7.7),
    "order-service": (2.4, 2.1, 4.4, 8.9),
    "redis-cache": (0.09, 0.08, 0.2, 0.33),
    "postgres-db": (3.35, 2.9, 7.2, 11.8),
}
CALLS = [
    ("client", "nginx-lb", 0.05),
    ("nginx-lb", "api-gateway", 0.09),
    ("api-gateway", "product-service", 0.11),
    ("api-gateway", "order-service", 0.12),
    ("product-service", "redis-cache", 0.06),
    ("product-service", "postgres-db", 0.08),
    ("order-service", "postgres-db", 0.07),
]


def path() -> dict[str, Any]:
    """A measurement as the page expects it."""
    return {
        "window_s": 10,
        "resolution_s": 1e-6,
        "request": {
            "rate_rps": 412.5,
            "mean_ms": 6.31,
            "p50_ms": 5.2,
            "p95_ms": 12.9,
            "p99_ms": 21.4,
            "error_ratio": 0.0021,
        },
        "hops": [
            {
                "name": name,
                "rate_rps": 412.5 if at < 2 else 190.2,
                "self_ms": {"mean": mean, "p50": p50, "p95": p95, "p99": p99},
                "error_ratio": 0.0021 if name == "order-service" else 0.0,
            }
            for at, (name, (mean, p50, p95, p99)) in enumerate(HOPS.items())
        ],
        "edges": [
            {
                "client": client,
                "server": server,
                "rate_rps": 190.2,
                "transit_ms": {"mean": mean, "p95": mean * 2},
            }
            for client, server, mean in CALLS
        ],
        "slowest": "postgres-db",
        "traces": [
            {"id": "a1", "route": "GET /api/products", "status": 200, "total_ms": 5.8, "at": 1.7e9},
            {"id": "b2", "route": "POST /api/orders", "status": 503, "total_ms": 19, "at": 1.7e9},
        ],
    }


def trace(wanted: str) -> dict[str, Any] | None:
    """One request hop by hop; only `a1` is kept."""
    if wanted != "a1":
        return None
    spans = [
        ("nginx-lb", 0, 0.0, 5.8, 0.3),
        ("api-gateway", 1, 0.2, 5.3, 1.0),
        ("product-service", 2, 0.7, 4.2, 1.1),
        ("redis-cache", 3, 1.0, 0.1, 0.1),
        ("postgres-db", 3, 1.3, 3.0, 3.0),
    ]
    return {
        "id": "a1",
        "route": "GET /api/products",
        "status": 200,
        "total_ms": 5.8,
        "spans": [
            {"hop": hop, "depth": depth, "start_ms": start, "duration_ms": took, "self_ms": own}
            for hop, depth, start, took, own in spans
        ],
    }


def write_run(journal: Path, *, seq: int = 0, run: str = "r-1") -> None:
    """A run of three nodes, all of them changed."""
    names = tuple(GRAPH.needs)
    events = [
        RunStarted("up", "digest", names, "boot"),
        *(StepFinished(name, Action.ENSURE, Outcome.CHANGED, 1, "") for name in names),
        RunFinished(Outcome.CHANGED, (), ()),
    ]
    book = Journal(journal)
    for at, event in enumerate(events):
        book.append(Record(seq + at, run, 1_700_000_000_000_000_000 + at, at * 1_000_000, event))
    book.close()


async def status() -> dict[str, Any]:
    row = {"pid": None, "address": None, "uptime_s": None, "restarts": 0, "ready_after_s": 0.1}
    words = {"last_error": "", "detail": ""}
    return {
        "lab": "made-up",
        "supervisor": 1,
        "page": "",
        "nodes": [
            {"node": name, "layer": layer, "state": "ready", **row, **words}
            for name, layer in GRAPH.layers.items()
        ],
    }


async def network() -> Network:
    return Network("made-up", "", (), (), True, (), (), ())


def sources(journal: Path, **changes: Any) -> Sources:
    """Of a lab of three nodes."""
    found = Sources(
        about={
            "lab": "made-up",
            "stack": "made-up",
            "host": "",
            "options": "",
            "policy": "heal",
            "digest": "d",
            "published": [],
            "prometheus": None,
        },
        journal=journal,
        status=status,
        graph=lambda: GRAPH,
        network=network,
    )
    return replace(found, **changes)


@contextlib.asynccontextmanager
async def serve(facts: Sources) -> AsyncIterator[str]:
    """The page on a port of its own; gives its address."""
    listener = listen(LOOPBACK, 0)
    port = listener.getsockname()[1]
    async with serving(Page(facts).application(), [listener]):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def in_thread(facts: Sources) -> Iterator[str]:
    """The same from a thread, for a browser that is driven from this one."""
    ready: list[str] = []
    is_up, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def work() -> None:
        async with serve(facts) as address:
            ready.append(address)
            is_up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()))
    thread.start()
    try:
        assert is_up.wait(20)
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
