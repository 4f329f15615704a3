"""One service behind the gateway: HTTP/1.1 over connections that are kept.

aiohttp's own client does much that nobody here needs (cookies, redirects, proxies, tracing) and
takes half of the gateway's CPU for it. This one sends a head and a body, and parses the answer
with httptools (llhttp, as Node.js has it).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools
from aiohttp import web
from gateway.guard import read_body
from multidict import CIMultiDict
from shared.hops import HEADER, NAME_HEADER, SENT_HEADER, frame, stamp_us
from shared.problem import Problem
from yarl import URL

log = logging.getLogger("gateway")

RETRY_FOR_S = 10.0  # a service takes a second or two to come back
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.25
CONNECT_S, ANSWER_S = 1.0, 8.0
CONNECTIONS = 64  # to each service; more requests wait for one
PASSED_BACK = (
    "Content-Type",
    "X-Cache",
    "Location",
    "Retry-After",
    "Idempotent-Replayed",
    NAME_HEADER,
)
PASSED_BACK_BY_KEY = {name.lower().encode(): name for name in (*PASSED_BACK, HEADER)}


class UnreachableError(Exception):
    """No connection: the request was not sent."""


class BrokenError(Exception):
    """The connection ended, or what came was no HTTP: the request may have been served."""


class Answer:
    """Status, body, and those headers that are passed back."""

    __slots__ = ("body", "headers", "status")

    def __init__(self) -> None:
        self.status, self.body = 0, b""
        self.headers: dict[str, str] = {}


class Connection(asyncio.Protocol):
    """One request at a time. The methods named `on_…` are httptools' callbacks."""

    def __init__(self, idle: deque[Connection]) -> None:
        self._idle = idle
        self._answer = Answer()
        self._waiter: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    async def exchange(self, request: bytes) -> Answer:
        """The answer to the request. Raises BrokenError, TimeoutError."""
        loop = asyncio.get_running_loop()
        self._answer, self._parser = Answer(), httptools.HttpResponseParser(self)
        waiter = self._waiter = loop.create_future()
        late = loop.call_later(ANSWER_S, self._fail, TimeoutError())
        try:
            self.transport.write(request)
            return await waiter
        finally:
            late.cancel()
            if self._waiter is not None:  # given up: an answer would be taken for the next one's
                self._waiter = None
                self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.transport.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(BrokenError(str(error)))

    def on_header(self, name: bytes, value: bytes) -> None:
        known = PASSED_BACK_BY_KEY.get(name.lower())
        if known is not None:
            self._answer.headers[known] = value.decode("utf-8", "surrogateescape")

    def on_body(self, data: bytes) -> None:
        self._answer.body += data

    def on_message_complete(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            self.transport.abort()  # more than was asked for
            return
        self._answer.status = self._parser.get_status_code()
        if self._parser.should_keep_alive():
            self._idle.append(self)
        else:
            self.transport.close()
        if not waiter.done():
            waiter.set_result(self._answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        self._fail(BrokenError(str(error or "the connection was closed")))

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.transport.abort()


class Upstream:
    """One service behind us."""

    def __init__(self, name: str, base: str) -> None:
        found = urlsplit(base)
        self.name, self._authority = name, found.netloc
        self._address = (found.hostname or name, found.port or 80)
        self._idle: deque[Connection] = deque()
        self._places = asyncio.Semaphore(CONNECTIONS)

    async def ask(
        self, request: web.Request, path: str, *, may_repeat: bool, headers: dict[str, str]
    ) -> web.Response:
        """The service's answer to this request. Raises Problem 502, 503 or 504.

        A refused connection is always tried again; a broken one only if the request may be
        made twice.
        """
        body = await read_body(request) if request.can_read_body else None
        until = time.monotonic() + RETRY_FOR_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._once(request, path, body, headers)
            except UnreachableError as error:
                reason: Exception = error
            except TimeoutError as error:
                raise Problem(504, f"{self.name} did not answer in time") from error
            except BrokenError as error:
                reason = error
                if not may_repeat:
                    raise Problem(502, f"{self.name} broke off its answer") from error
            if time.monotonic() + pause_s > until:
                log.warning("%s: %s", self.name, reason)
                away = {"Retry-After": "2"}
                raise Problem(503, f"{self.name} does not answer", headers=away) from reason
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _once(
        self, request: web.Request, path: str, body: bytes | None, headers: dict[str, str]
    ) -> web.Response:
        if request.query_string:
            path = URL(f"{path}?{request.query_string}").raw_path_qs
        # What HEAD would answer is GET's without the body, which aiohttp leaves out by itself.
        method = "GET" if request.method == "HEAD" else request.method
        current = frame.get()
        result: str | int = "error"
        below = None
        sent_us = stamp_us()
        if current is not None:
            headers = {**headers, SENT_HEADER: str(sent_us)}
        try:
            answer = await self._exchange(self._message(method, path, headers, body))
            result, below = answer.status, answer.headers.pop(HEADER, None)
        finally:
            if current is not None:
                current.call(self.name, sent_us, result, below)
        return web.Response(
            body=answer.body, status=answer.status, headers=CIMultiDict(answer.headers)
        )

    def _message(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> bytes:
        """Raises Problem 400 for a value that would be more than one line."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines)
        if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
            raise Problem(400, "a header holds the end of a line")
        return b"%s\r\n\r\n%s" % (head.encode("utf-8", "surrogateescape"), body or b"")

    async def _exchange(self, message: bytes) -> Answer:
        """Raises UnreachableError, BrokenError, TimeoutError."""
        if self._places.locked():
            async with asyncio.timeout(ANSWER_S):
                await self._places.acquire()
        else:
            await self._places.acquire()  # at once
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            return await connection.exchange(message)
        finally:
            self._places.release()

    async def _connect(self) -> Connection:
        """Raises UnreachableError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, made = await loop.create_connection(
                    lambda: Connection(self._idle), *self._address
                )
        except OSError as error:  # TimeoutError is one
            raise UnreachableError(str(error) or f"no connection within {CONNECT_S} s") from error
        return made

    def close(self) -> None:
        """Ends the connections that nobody uses."""
        for connection in list(self._idle):
            connection.transport.abort()
