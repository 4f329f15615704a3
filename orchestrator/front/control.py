"""The supervisor's control socket: HTTP over a unix socket that only root may use.

```
curl --unix-socket /run/orchestrator/shop/control.sock http://localhost/status
GET  /status[?stack=DIGEST]                         what `status --json` prints
GET  /events[?after=SEQ]                            the journal as a stream, one record a line
POST /replay {"what", "cascade", "deps", "dry_run"} radius, records, result, one a line
POST /replay?stack=DIGEST                           layers before them, warnings among them
POST /down   {"volumes"}                            records, result; then the supervisor ends
GET  /path, /traces, /trace/{ID|last}               the request path, kept requests, one of them
GET  /metrics                                       for Prometheus
```
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from orchestrator.app import App
from orchestrator.engine.executor import Result
from orchestrator.errors import BusyError, OrchestratorError, UsageError
from orchestrator.events import Outcome, Record, encode
from orchestrator.front.guard import no_browsers
from orchestrator.front.metrics import Metrics
from orchestrator.front.problems import problems
from orchestrator.lab import Lab
from orchestrator.lock import PATIENCE_S, lock
from orchestrator.path.watch import PathWatch
from orchestrator.rebuild import blast_radius, rebuild, replayed
from orchestrator.sights import journal
from orchestrator.status import look

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Sight = Callable[[Record], None]

UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
MAX_BODY_BYTES = 4096
KINDS = {str: "text", bool: "true or false"}  # what a wish may be, in words
NUMBER = re.compile(r"-?[0-9]{1,18}")


def listen(lab: Lab) -> socket.socket:
    """The control socket, mode 0600. Only who holds the supervisor's lock may call this."""
    path = lab.run_dir / "control.sock"
    path.unlink(missing_ok=True)
    directory = os.open(lab.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        # By descriptor, since an address holds no more than 107 bytes: unix(7).
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
        os.close(directory)
    return listener


class Control:
    """What may be asked and done over the socket."""

    def __init__(
        self,
        app: App,
        *,
        rest: Callable[[], None],
        wake: Callable[[], None],
        end: Callable[[], Awaitable[None]],
        watch: PathWatch | None,
        metrics: Metrics,
    ) -> None:
        """`rest` stops the healing, `wake` lets it go on; `end` is awaited once the lab is down."""
        self._app, self._rest, self._wake, self._end = app, rest, wake, end
        self._watch, self._metrics = watch, metrics
        self._templates = app.compiler.templates.signature()

    def _refuse_if_outdated(self, request: web.Request) -> None:
        """Where it names the stack that is meant, and that or its files have changed."""
        known = request.query.get("stack")
        if known is None:
            return
        if known != self._app.digest or self._app.compiler.templates.signature() != self._templates:
            raise web.HTTPConflict(reason="the stack has changed since this supervisor began")

    def application(self) -> web.Application:
        app = web.Application(
            middlewares=[problems, peers, no_browsers], client_max_size=MAX_BODY_BYTES
        )
        app.add_routes(
            [
                web.get("/status", self.status),
                web.get("/events", self.events),
                web.post("/replay", self.replay),
                web.post("/down", self.down),
                web.get("/path", self.path),
                web.get("/traces", self.traces),
                web.get("/trace/{word:last|[0-9a-f]{1,32}}", self.trace),
                web.get("/metrics", self.metrics),
            ]
        )
        return app

    async def status(self, request: web.Request) -> web.Response:
        """With `?stack=DIGEST` only for who knows the stack and its files as we do."""
        self._refuse_if_outdated(request)
        return web.json_response((await look(self._app)).document())

    async def path(self, _: web.Request) -> web.Response:
        return web.json_response(self._watched().document())

    async def traces(self, _: web.Request) -> web.Response:
        return web.json_response(self._watched().traces())

    async def trace(self, request: web.Request) -> web.Response:
        found = self._watched().trace(request.match_info["word"])
        if found is None:
            words = "no user has asked yet: `orchestrator trace --list`"
            is_last = request.match_info["word"] == "last"
            raise web.HTTPNotFound(reason=words if is_last else "no such request is kept")
        return web.json_response(found)

    async def metrics(self, request: web.Request) -> web.Response:
        body, content_type = await self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _watched(self) -> PathWatch:
        if self._watch is None:
            raise web.HTTPNotFound(reason="no service of this stack has a path_log")
        return self._watch

    async def events(self, request: web.Request) -> web.StreamResponse:
        after = request.query.get("after", "-1")
        if not NUMBER.fullmatch(after):
            raise UsageError("after must be the number of a record")
        async with _lines(request) as write:
            async for record in journal.follow(self._app.lab.journal):
                if record.seq > int(after):
                    await write(encode(record))
        raise AssertionError("a journal has no end")

    async def replay(self, request: web.Request) -> web.StreamResponse:
        want = await _wishes(
            request, {"what": "", "cascade": False, "deps": True, "dry_run": False}
        )
        self._refuse_if_outdated(request)
        app = self._app
        held = lock(app.lab, "replay", patience_s=PATIENCE_S)
        async with contextlib.nullcontext() if want["dry_run"] else held:
            found = await blast_radius(
                app, want["what"], cascade=want["cascade"], with_deps=want["deps"]
            )
            begun = time.monotonic()
            is_ours = "stack" in request.query
            async with _lines(request) as write:
                if is_ours:
                    layers = {name: app.layers[name] for name in found.radius.everything}
                    await write(json.dumps(layers))
                await write(json.dumps(found.document(want["what"], app.nodes)))
                if found.radius.touched and not want["dry_run"]:
                    await _tell(
                        write,
                        lambda sight, warn: rebuild(
                            app, found, [sight], complain=warn if is_ours else _nobody
                        ),
                        lambda done: replayed(done[0], done[1], time.monotonic() - begun),
                    )
        return write.response

    async def down(self, request: web.Request) -> web.StreamResponse:
        want = await _wishes(request, {"volumes": False})
        is_over = False

        async def work(sight: Sight, _: Callable[[str], None]) -> Result:
            nonlocal is_over
            self._rest()
            try:
                found = await self._app.down([sight], volumes=want["volumes"], complain=_nobody)
            except (BusyError, UsageError):  # nothing was touched
                self._wake()
                raise
            except BaseException:
                is_over = True
                raise
            is_over = True
            return found

        try:
            async with _lines(request) as write:
                await _tell(
                    write,
                    work,
                    lambda done: {"outcome": done.outcome, "failed": list(done.failed)},
                )
        finally:
            if is_over:
                await self._end()
        return write.response


def _nobody(_: str) -> None:
    """Complaints of a run have no place in its stream of records."""


class _Lines:
    """A response of JSON lines. Goes on silently when its reader has gone."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response

    async def __call__(self, line: str) -> None:
        with contextlib.suppress(ConnectionError):
            await self.response.write(line.encode() + b"\n")


@contextlib.asynccontextmanager
async def _lines(request: web.Request) -> AsyncIterator[_Lines]:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
    yield _Lines(response)
    with contextlib.suppress(ConnectionError):
        await response.write_eof()


async def _tell(
    write: _Lines,
    work: Callable[[Sight, Callable[[str], None]], Awaitable[Any]],
    report: Callable[[Any], dict[str, Any]],
) -> None:
    """Each record and warning of a run as it comes, then its report; an error is the last line.

    The run goes to its end even when nobody reads on.
    """
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def see(record: Record) -> None:
        lines.put_nowait(encode(record))

    def warn(text: str) -> None:
        lines.put_nowait(json.dumps({"warning": text}))

    async def run() -> Any:
        try:
            return await work(see, warn)
        finally:
            lines.put_nowait(None)

    task = asyncio.ensure_future(run())
    try:
        while (line := await lines.get()) is not None:
            await write(line)
        try:
            await write(json.dumps(report(await task)))
        except OrchestratorError as error:
            await write(json.dumps({"outcome": Outcome.FAILED, "error": str(error)}))
    finally:
        await asyncio.shield(asyncio.wait([task]))


async def _wishes(request: web.Request, known: dict[str, Any]) -> dict[str, Any]:
    """The body's members over their defaults; their types are the defaults'. Raises UsageError."""
    text = await request.text()
    try:
        given = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise UsageError(f"the body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise UsageError("the body must be a JSON object")
    for key, value in given.items():
        if key not in known:
            raise UsageError(f"unknown member {key!r}; known: {', '.join(known)}")
        if type(value) is not type(known[key]):
            raise UsageError(f"{key} must be {KINDS[type(known[key])]}")
    return {**known, **given}


@web.middleware
async def peers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses peers of another user: the mode of a socket's file says little in a container."""
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    _, uid, _ = UCRED.unpack(packed)
    if uid not in (0, os.geteuid()):
        raise web.HTTPForbidden(reason=f"user {uid} may not control this lab")
    return await handler(request)
