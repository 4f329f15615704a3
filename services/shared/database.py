"""PostgreSQL through connections that are kept, and survive a restart of the server."""

from __future__ import annotations

import asyncio
import logging
import selectors
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg

from shared.hops import frame, stamp_us
from shared.settings import passwords, setting

log = logging.getLogger(__name__)
T = TypeVar("T")
Row = asyncpg.Record

HOP = setting("DATABASE_HOST")  # services are called by their names
WAIT_S = 3.0  # for a server that is restarting
# For an answer, beyond the 10 s that database/postgresql.conf gives a statement: a server that
# has stopped, or that nothing comes from any more, ends none.
LONGEST_S = 12.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.4
# PostgreSQL documentation, appendix A: it shuts down, has crashed, or is not there yet.
RESTARTING = ("57P01", "57P02", "57P03")
# The same: no connection, it only reads, given up for another's sake, no room, not now, stopped,
# no disk.
UNABLE = ("08", "25006", "40", "53", "54", "55", "57", "58")


class NoDatabaseError(Exception):
    """The server cannot do now what it was asked for: nobody answers, or its disk is full."""


class _Waits(selectors.DefaultSelector):
    """When a loop began to wait for an answer, and when the last of that was there: to make rows
    of it is the service's own time."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_us = 0
        self.received_us: int | None = None

    def begin(self) -> None:
        self.sent_us, self.received_us = stamp_us(), None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout)
        if timeout is None or timeout > 0:
            self.received_us = stamp_us()
        return found


class _Timed(asyncpg.Connection):
    """Turning values into what the server takes is the service's own time, too."""

    waits: _Waits

    async def _get_statement(self, *args: Any, **kwargs: Any) -> Any:
        # The last that asyncpg does before. If it should call it no more, that counts as the
        # server's time; where the statement is prepared first, the server has its part in it.
        found = await super()._get_statement(*args, **kwargs)
        if self.waits.received_us is None:
            self.waits.begin()
        return found


class Connection:
    """A connection with an event loop of its own, which the thread that asks runs while it waits:
    no other thread takes part. For one thread at a time.

    Each statement is a transaction of its own, prepared by its first use. The time that is spent
    waiting for the server is accounted for. All raise asyncpg.PostgresError or OSError; a
    connection without an answer for LONGEST_S is given up.
    """

    def __init__(self, timeout_s: float) -> None:
        self._waits = _Waits()
        self._loop = asyncio.SelectorEventLoop(self._waits)
        try:
            self._connection = self._loop.run_until_complete(_connect(timeout_s))
            self._connection.waits = self._waits
        except BaseException:
            self._end_loop()
            raise

    def fetch(self, query: str, *values: Any) -> list[Row]:
        return self._accounted(self._connection.fetch(query, *values))

    def fetchrow(self, query: str, *values: Any) -> Row | None:
        return self._accounted(self._connection.fetchrow(query, *values))

    def is_closed(self) -> bool:
        return bool(self._connection.is_closed())

    def close(self) -> None:
        """At once, without a word to the server."""
        self._connection.terminate()
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.run_until_complete(asyncio.sleep(0))  # sockets are let go of in this turn
        self._loop.close()

    def _answer(self, exchange: Coroutine[Any, Any, T]) -> T:
        limit = self._loop.call_later(LONGEST_S, self._connection.terminate)
        try:
            return self._loop.run_until_complete(exchange)
        except asyncpg.InterfaceError as error:
            if self.is_closed():  # between two statements
                raise ConnectionError(str(error)) from error
            raise
        except asyncpg.InternalClientError as error:
            # The server's last word came with the answer before: it goes. Nothing was sent.
            self._connection.terminate()
            raise ConnectionError(str(error)) from error
        finally:
            limit.cancel()

    def _accounted(self, exchange: Coroutine[Any, Any, T]) -> T:
        current = frame.get()
        if current is None:
            return self._answer(exchange)
        waits, result = self._waits, "error"
        waits.begin()
        try:
            found = self._answer(exchange)
            result = "ok"
        finally:
            current.call(HOP, waits.sent_us, result, received_us=waits.received_us)
        return found


async def _connect(timeout_s: float) -> _Timed:
    """With the password of this moment; while it is rotated, two may be."""
    user = setting("DATABASE_USER")
    # Looked up here, since a loop would begin a thread for that.
    address = socket.gethostbyname(setting("DATABASE_HOST"))
    refusal: Exception | None = None
    for password in passwords("DATABASE_PASSWORD_FILE") or [None]:
        try:
            return await asyncpg.connect(
                host=address,
                port=int(setting("DATABASE_PORT", "5432")),
                database=setting("DATABASE_NAME", "shop"),
                user=user,
                password=password,
                ssl=False,
                timeout=timeout_s,
                connection_class=_Timed,
                server_settings={"application_name": user},
            )
        except asyncpg.InvalidPasswordError as error:
            refusal = error
        except asyncpg.PostgresError as error:
            refusal = error
            break
    raise ConnectionError(str(refusal)) from refusal  # whatever it says, we have no connection


class Database:
    """The shop's database as one role: at most a connection for each thread that asks at once."""

    def __init__(self) -> None:
        self._free: list[Connection] = []  # its pop and append are atomic

    def run(self, work: Callable[[Connection], T]) -> T:
        """The work's result; done again while the server restarts, and for no other reason.

        The work must be safe to repeat. Raises NoDatabaseError when the server stays away and for
        what it cannot do (a full disk), for a statement's other errors asyncpg.PostgresError.
        """
        until = time.monotonic() + WAIT_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return self._once(work, until - time.monotonic())
            except (asyncpg.PostgresError, OSError) as error:
                if not _is_away(error) or time.monotonic() + pause_s > until:
                    if _is_unable(error):
                        raise NoDatabaseError(_said(error)) from error
                    raise
                if pause_s == FIRST_PAUSE_S:  # a line for each request, not for each question
                    log.warning("database: %s; asking again", _said(error))
            self._forget()
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _once(self, work: Callable[[Connection], T], timeout_s: float) -> T:
        connection = self._take() or Connection(timeout_s)
        try:
            return work(connection)
        finally:
            self._free.append(connection)

    def _take(self) -> Connection | None:
        """One that was open when it was used last."""
        while True:
            try:
                connection = self._free.pop()
            except IndexError:
                return None
            if not connection.is_closed():
                return connection
            connection.close()

    def _forget(self) -> None:
        """Those that are free: they were made with a server that went."""
        while connection := self._take():
            connection.close()


def _is_away(error: asyncpg.PostgresError | OSError) -> bool:
    """Whether the connection is gone, or the server goes or comes."""
    if isinstance(error, OSError):
        return True
    state = error.sqlstate
    return state.startswith("08") or state in RESTARTING


def _is_unable(error: asyncpg.PostgresError | OSError) -> bool:
    return isinstance(error, OSError) or error.sqlstate.startswith(UNABLE)


def _said(error: Exception) -> str:
    """In one line; a TimeoutError says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
