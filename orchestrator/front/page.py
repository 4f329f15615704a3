"""The live page: what it reads, as JSON and as a stream of events. Nothing here changes anything.

```
GET /                     the page; /static/… what it is made of
GET /api/about            lab, host, addresses, commands' prefix
GET /api/status           what `status --json` prints, and the journal's position before it
GET /api/graph            nodes with layer and needs; where each is drawn, for two views
GET /api/topology         the network as the kernel has it now; /api/topology.svg as a picture
GET /api/events           journal records as Server-Sent Events; Last-Event-ID, ?after=ID, ?last=N
GET /api/runs[/ID]        the last runs; one run's rows, phases and critical path
GET /api/path             the request path's times per hop, or null while nobody measures
GET /api/trace/ID         one request hop by hop
```
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from aiohttp import web
from msgspec import Struct, field, to_builtins

from orchestrator.drawing.graph import Graph
from orchestrator.drawing.network import Network
from orchestrator.front.feed import Chronicle, Feed, Position, position
from orchestrator.front.problems import problem

T = TypeVar("T")

STATIC = Path(__file__).parent / "static"
RUNS, RECORDS_MOST = 60, 1000
READERS_MOST = 16  # a browser opens six connections to a host at most
NUMBER = re.compile(r"[0-9]{1,18}")
SERVICE_KINDS = ("service:", "job:", "check:")
# A picture brings its own style sheet, and nothing else.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def _nothing() -> dict[str, Any] | None:
    """While nobody measures."""
    return None


def _no_trace(_: str) -> dict[str, Any] | None:
    return None


class Sources(Struct):
    """Where the page's facts come from, each asked when somebody looks.

    `path` gives {"window_s", "resolution_s", "request", "hops", "edges", "slowest", "traces"}
    or None, `trace` {"id", "route", "status", "total_ms", "spans"} or None.
    """

    about: dict[str, Any]
    journal: Path
    status: Callable[[], Awaitable[dict[str, Any]]]
    graph: Callable[[], Graph]
    network: Callable[[], Awaitable[Network]]
    path: Callable[[], dict[str, Any] | None] = _nothing
    trace: Callable[[str], dict[str, Any] | None] = _no_trace


class Shared(Struct, Generic[T]):
    """One answer for all who ask within a short time."""

    ask: Callable[[], Awaitable[T]]
    keep_s: float
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _at_s: float = -1e9
    _value: T | None = None

    async def __call__(self) -> T:
        async with self._lock:
            if self._value is None or time.monotonic() - self._at_s > self.keep_s:
                self._value = await self.ask()
                self._at_s = time.monotonic()
            return self._value


class Page:
    """What may be asked on loopback."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._chronicle = Chronicle(sources.journal)
        self._readers = 0
        self._status = Shared(self._ask_status, keep_s=0.3)
        self._network = Shared(sources.network, keep_s=1.0)
        self._graph: dict[str, Any] | None = None
        self._begun_ms = time.time() * 1000

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/", self.page),
            web.get("/api/about", self.about),
            web.get("/api/status", self.status),
            web.get("/api/graph", self.graph),
            web.get("/api/topology", self.topology),
            web.get("/api/topology.svg", self.picture),
            web.get("/api/events", self.events, allow_head=False),
            web.get("/api/runs", self.runs),
            web.get("/api/runs/{id:[0-9A-Za-z-]+}", self.run),
            web.get("/api/path", self.path),
            web.get("/api/trace/{id:[0-9A-Za-z_.:-]+}", self.trace),
            web.static("/static", STATIC),
        ]

    async def page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "index.html")

    async def about(self, _: web.Request) -> web.Response:
        return web.json_response({**self._sources.about, "begun_ms": self._begun_ms})

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response(await self._status())

    async def _ask_status(self) -> dict[str, Any]:
        # The position first: a record that comes while we look is told once more by the stream.
        where = await asyncio.to_thread(position, self._sources.journal)
        found = await self._sources.status()
        return {**found, "position": str(where), "seq": where.seq, "at_ms": time.time() * 1000}

    async def graph(self, _: web.Request) -> web.Response:
        if self._graph is None:
            self._graph = await asyncio.to_thread(_graph_document, self._sources.graph())
        return web.json_response(self._graph)

    async def topology(self, _: web.Request) -> web.Response:
        return web.json_response(to_builtins(await self._network()))

    async def picture(self, _: web.Request) -> web.Response:
        from orchestrator.drawing.topology_svg import as_svg

        text = await asyncio.to_thread(as_svg, await self._network())
        headers = {"Content-Security-Policy": PICTURE_POLICY}
        return web.Response(text=text, content_type="image/svg+xml", headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        since = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        last = request.query.get("last", "0")
        where = Position.parse(since)
        if (since and where is None) or not NUMBER.fullmatch(last):
            return problem(400, "after must be the id of a message, last a number")
        if self._readers >= READERS_MOST:
            return problem(503, f"{self._readers} pages are open already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.headers["Cache-Control"] = "no-store"
        self._readers += 1
        try:
            with contextlib.suppress(ConnectionError):  # a reader may be gone at any time
                await response.prepare(request)
                feed = Feed(self._sources.journal).follow(where, last=min(int(last), RECORDS_MOST))
                # Bytes at once, so that the reader knows that it is connected.
                await response.write(b"event: beat\ndata: {}\n\n")
                async for message in feed:
                    await response.write(message.encode())
        finally:
            self._readers -= 1
            if not self._readers:
                self._chronicle.forget()
        return response

    async def runs(self, _: web.Request) -> web.Response:
        from orchestrator.sights.timeline import summaries

        records = (await self._chronicle.read()).records
        return web.json_response([to_builtins(each) for each in summaries(records, most=RUNS)])

    async def run(self, request: web.Request) -> web.Response:
        from orchestrator.sights.timeline import document

        wanted = request.match_info["id"]
        records = (await self._chronicle.read()).records
        found = [record for record in records if record.run == wanted]
        if not found:
            return problem(404, "there is no such run in the journal")
        return web.json_response(document(found))

    async def path(self, _: web.Request) -> web.Response:
        return web.json_response(self._sources.path())

    async def trace(self, request: web.Request) -> web.Response:
        found = self._sources.trace(request.match_info["id"])
        return (
            problem(404, "that request is not kept") if found is None else web.json_response(found)
        )


def _graph_document(graph: Graph) -> dict[str, Any]:
    """Everything that the stack says of the graph, and both ways to draw it."""
    from orchestrator.drawing.placing import label, place

    nodes = []
    for layer, names in graph.members.items():
        for name in names:
            kind, short = label(name)
            needs = dict(graph.needs[name])
            nodes.append(
                {"name": name, "kind": kind, "short": short, "layer": layer, "needs": needs}
            )
    services = graph.only(name for name in graph.needs if name.startswith(SERVICE_KINDS))
    return {
        "nodes": nodes,
        "layers": list(graph.members),
        "views": {"services": place(services), "everything": place(graph)},
    }
