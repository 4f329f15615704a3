"""One service behind the gateway: HTTP/1.1 over connections that are kept.

aiohttp's own client does much that nobody here needs (cookies, redirects, proxies, tracing) and
takes half of the gateway's CPU for it. This one sends a head and a body, and parses the answer
with httptools (llhttp, as Node.js and aiohttp have it).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools
from aiohttp import web
from gateway.guard import overloaded, read_body
from shared.hops import DEADLINE_HEADER, HEADER, NAME_HEADER, SENT_HEADER, frame, stamp_us
from shared.problem import Problem

log = logging.getLogger("gateway")

RETRY_FOR_S = 10.0  # a service takes a second or two to come back
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.25
CONNECT_S, ANSWER_S = 1.0, 8.0
ANSWER_US = int(ANSWER_S * 1e6)
CONNECTIONS = 64  # to each service at most; a request that finds none free waits for its turn
TURN_S = 4.0  # so long; then it is shed, since its client has waited long enough
PASSED_BACK = (
    "Content-Type",
    "X-Cache",
    "Location",
    "Retry-After",
    "Idempotent-Replayed",
    NAME_HEADER,
)
# As services write them: Granian in lower case, anybody else as they like.
WANTED = {name.lower().encode(): name for name in (*PASSED_BACK, HEADER)}


class UnreachableError(Exception):
    """No connection: the request was not sent."""


class BrokenError(Exception):
    """The connection ended, or what came was no HTTP: the request may have been served."""


class Answer:
    """Status, body, and those headers that are passed back."""

    __slots__ = ("body", "headers", "received_us", "status")

    def __init__(self) -> None:
        self.status, self.body, self.received_us = 0, b"", 0
        self.headers: dict[str, str] = {}


class Connection(asyncio.Protocol):
    """One exchange at a time. The methods named `on_…` are httptools' callbacks."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._waiter: asyncio.Future[Answer] | None = None
        self._until_s = 0.0  # by the loop's clock: then the answer is late
        self._timer: asyncio.TimerHandle | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, and hides it
        self.is_open = True

    async def exchange(self, request: bytes) -> Answer:
        """The answer to the request. Raises BrokenError, TimeoutError.

        If it ends without an answer, the connection is closed: what may still come on it would
        be taken for the answer to the next request.
        """
        self._answer = Answer()
        waiter = self._waiter = self._loop.create_future()
        self._until_s = self._loop.time() + ANSWER_S
        if self._timer is None:
            self._timer = self._loop.call_at(self._until_s, self._look_at_time)
        try:
            self._transport.write(request)
            return await waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None

    def _look_at_time(self) -> None:
        """One timer after another for all exchanges, not one for each: it goes off when one would
        have been late, and if there is another by then again when that one will be."""
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() >= self._until_s:
            self._fail(TimeoutError())
        else:
            self._timer = self._loop.call_at(self._until_s, self._look_at_time)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked
            return
        if not self._answer.received_us:
            self._answer.received_us = stamp_us()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(BrokenError(str(error)))

    def on_header(self, name: bytes, value: bytes) -> None:
        known = WANTED.get(name.lower())
        if known is not None:
            self._answer.headers[known] = value.decode("utf-8", "surrogateescape")

    def on_body(self, data: bytes) -> None:
        self._answer.body += data

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, Answer()
        answer.status = self._parser.get_status_code()
        if self._waiter is None or self._waiter.done() or not self._parser.should_keep_alive():
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
        self._fail(BrokenError(str(error or "the connection was closed")))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        """At once, whatever is under way."""
        self.is_open = False
        self._transport.abort()


class Upstream:
    """One service behind us."""

    def __init__(self, name: str, base: str) -> None:
        found = urlsplit(base)
        self.name, self._authority = name, found.netloc
        self._address = (found.hostname or name, found.port or 80)
        self._idle: list[Connection] = []  # the last one used is the first to be used again
        self._turns = asyncio.Semaphore(CONNECTIONS)

    async def ask(
        self, request: web.Request, path: str, headers: Mapping[str, str]
    ) -> web.Response:
        """The service's answer to this request. Raises Problem 503 or 504.

        A request that was refused or broken off is made again, so it must be one that may be
        made twice.
        """
        body = await read_body(request) if request.can_read_body else None
        if query := request.rel_url.raw_query_string:
            path = f"{path}?{query}"
        # What HEAD would answer is GET's without the body, which aiohttp leaves out by itself.
        method = "GET" if request.method == "HEAD" else request.method
        until = time.monotonic() + RETRY_FOR_S
        pause_s = FIRST_PAUSE_S
        while True:
            await self._turn()
            try:
                return await self._once(method, path, headers, body)
            except (UnreachableError, BrokenError) as error:
                reason = error
            except TimeoutError as error:
                raise Problem(504, f"{self.name} did not answer in time") from error
            finally:
                self._turns.release()
            if time.monotonic() + pause_s > until:
                log.warning("%s: %s", self.name, reason)
                away = {"Retry-After": "2"}
                raise Problem(503, f"{self.name} does not answer", headers=away) from reason
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _turn(self) -> None:
        """Raises Problem 503."""
        if not self._turns.locked():
            await self._turns.acquire()  # at once
            return
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        except TimeoutError as error:
            raise overloaded() from error

    async def _once(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> web.Response:
        """Raises UnreachableError, BrokenError, TimeoutError, Problem."""
        current = frame.get()
        sent_us = stamp_us()
        result, below, received_us = "error", None, None
        try:
            connection = await self._connection()
            if current is not None:  # to find a connection was the gateway's own time
                sent_us = stamp_us()
                headers = {**headers, SENT_HEADER: str(sent_us)}
            headers = {**headers, DEADLINE_HEADER: str(stamp_us() + ANSWER_US)}
            answer = await connection.exchange(self._message(method, path, headers, body))
            result, received_us = str(answer.status), answer.received_us
            below = answer.headers.pop(HEADER, None)
        finally:
            if current is not None:
                current.call(self.name, sent_us, result, below, received_us=received_us)
        if connection.is_open:
            self._idle.append(connection)
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)

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
        return f"{head}\r\n\r\n".encode("utf-8", "surrogateescape") + (body or b"")

    async def _connection(self) -> Connection:
        """One that was kept, or a new one. Raises UnreachableError."""
        while self._idle:
            kept = self._idle.pop()
            if kept.is_open:
                return kept
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, made = await loop.create_connection(Connection, *self._address)
        except OSError as error:  # TimeoutError is one
            raise UnreachableError(str(error) or f"no connection within {CONNECT_S} s") from error
        return made

    def close(self) -> None:
        """Ends the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()
