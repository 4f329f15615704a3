"""Hop accounting: when a request came, what it called, when its answer left.

Every hop of the path runs on one host and so on one CLOCK_MONOTONIC, network namespaces
included (clock_gettime(2)): stamps of two hops may be subtracted. Stamps are whole
microseconds. A caller that wants to know sends `X-Hop-Sent: STAMP` and gets back

    X-Hop: HOP,ARRIVED,LEFT,ROUTE[;CALLER>CALLEE,RESULT,SENT,RECEIVED,ARRIVED,LEFT]…

its callee's own stamps, and one entry for each call that was made below it. RESULT is an
HTTP status, `ok` or `error`. Stores do not stamp: their entries end after RECEIVED. There are
at most MAX_CALLS; a last entry `+N` says how many there would be more. A caller that only
counts sends `X-Hop-Sent: route`, and gets `X-Hop: HOP,,,ROUTE`.

A caller that waits so long and no longer sends `X-Deadline: STAMP`: what was queued until then
is not carried out for nobody.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from shared.metrics import Requests

SENT_HEADER, HEADER, DEADLINE_HEADER = "X-Hop-Sent", "X-Hop", "X-Deadline"
ROUTE_ONLY = "route"
MAX_CALLS = 24  # in one header: nginx has a page (4 KB) for the whole head of an answer
FORWARDS_HEADER, NAME_HEADER = "Max-Forwards", "Server-Hop"

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def stamp_us() -> int:
    return time.monotonic_ns() // 1000


class Frame:
    """One request inside this hop, with the calls that it made."""

    __slots__ = ("_calls", "_left_out", "arrived_us", "hop")

    def __init__(self, hop: str) -> None:
        self.hop, self.arrived_us = hop, stamp_us()
        self._calls: list[str] = []
        self._left_out = 0

    def call(
        self,
        callee: str,
        sent_us: int,
        result: str | int = "ok",
        below: str | None = None,
        *,
        received_us: int | None = None,
    ) -> None:
        """Notes a call that ended just now, or whose answer's head came at `received_us`;
        `below` is the callee's X-Hop, if it has one."""
        entry = f"{self.hop}>{callee},{result},{sent_us},{received_us or stamp_us()}"
        if below:
            own, _, rest = below.partition(";")
            _, arrived, left, _ = own.split(",", 3)
            entry = f"{entry},{arrived},{left}"
            if rest:
                self._calls += [entry, *rest.split(";")]
                self._keep_bounds()
                return
        self._calls.append(entry)
        self._keep_bounds()

    def _keep_bounds(self) -> None:
        """The first ones stay: each comes after the one that it was called in."""
        calls = self._calls
        if calls[-1].startswith("+"):  # of the callee
            self._left_out += int(calls.pop())
        if len(calls) > MAX_CALLS:
            self._left_out += len(calls) - MAX_CALLS
            del calls[MAX_CALLS:]

    def header(self, route: str) -> str:
        """The value of X-Hop; the answer leaves now."""
        own = f"{self.hop},{self.arrived_us},{stamp_us()},{route}"
        left_out = [f"+{self._left_out}"] if self._left_out else []
        return ";".join([own, *self._calls, *left_out])


frame: ContextVar[Frame | None] = ContextVar("frame", default=None)


@contextmanager
def calling(callee: str) -> Iterator[None]:
    """A call to a store, for the length of the block."""
    current = frame.get()
    if current is None:
        yield
        return
    sent_us, result = stamp_us(), "error"
    try:
        yield
        result = "ok"
    finally:
        current.call(callee, sent_us, result)


def counted(hop: str, app: Wsgi, route: Callable[[], str], requests: Requests) -> Wsgi:
    """The WSGI application with its requests counted, and their time accounted for where the
    caller asks for it.

    `route()` is asked when the answer begins, inside of the application's own context.
    """

    def wrapped(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        current = Frame(hop) if "HTTP_X_HOP_SENT" in environ else None
        requests.begun += 1

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            requests.answer(int(status[:3]))
            if current is not None:
                headers.append((HEADER, current.header(route())))
            return start_response(status, headers, *rest)

        token = frame.set(current)
        try:
            answer = app(environ, start)
            try:
                return [b"".join(answer)]  # short ones all: nothing is gained by parts
            finally:
                if hasattr(answer, "close"):
                    answer.close()
        finally:
            frame.reset(token)

    return wrapped


def next_parent(traceparent: str) -> str:
    """The same trace with a parent of our own: W3C Trace Context, section 3.4."""
    version, trace, _, flags = traceparent.split("-", 3)
    return f"{version}-{trace}-{random.getrandbits(64) or 1:016x}-{flags}"
