"""PostgreSQL through a pool of connections that survives a restart of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from shared.hops import frame, stamp_us
from shared.settings import passwords, setting

T = TypeVar("T")
Connection = psycopg.Connection[dict[str, Any]]

HOP = setting("DATABASE_HOST")  # services are called by their names
POOL_SIZE = 4  # one for each thread that serves requests
WAIT_S = 3.0  # for a free connection, and for a server that is restarting
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.4
# PostgreSQL documentation, appendix A: it shuts down, has crashed, or is not there yet.
RESTARTING = ("57P01", "57P02", "57P03")
REFUSED = "password authentication failed"  # libpq has no code for it: the server's words


class TimedCursor(psycopg.Cursor[dict[str, Any]]):
    """Turning values into what the server takes is the service's own time, not the server's."""

    def _maybe_prepare_gen(self, *args: Any, **kwargs: Any) -> Any:
        # Called when that is done. If psycopg should call it no more, it counts as the server's.
        cast("TimedConnection", self.connection).sent_us = stamp_us()
        return super()._maybe_prepare_gen(*args, **kwargs)


class TimedConnection(psycopg.Connection[dict[str, Any]]):
    """Accounts for the time that is spent waiting for the server."""

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Any:
        """With the password of this moment; while it is rotated, two may be."""
        *others, last = passwords("DATABASE_PASSWORD_FILE") or [None]
        for password in others:
            try:
                return super().connect(*args, **kwargs, password=password)
            except psycopg.OperationalError as error:
                if REFUSED not in str(error):
                    raise
        return super().connect(*args, **kwargs, password=last)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent_us = 0
        self.received_us: int | None = None
        self._cursors: dict[Any, TimedCursor] = {}

    def execute(self, query: Any, params: Any = None, **options: Any) -> TimedCursor:
        """On a cursor that is kept for the statement, which is a constant: psycopg need not find
        out again of what types its values and columns are."""
        cursor = self._cursors.get(query)
        if cursor is None:
            cursor = self._cursors[query] = cast("TimedCursor", self.cursor())
        return cursor.execute(query, params, **options)

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        current = frame.get()
        if current is None:
            return super().wait(gen, *args, **kwargs)
        self.sent_us, self.received_us, result = stamp_us(), None, "error"
        try:
            found = super().wait(self._stamped(gen), *args, **kwargs)
            result = "ok"
        finally:
            current.call(HOP, self.sent_us, result, received_us=self.received_us)
        return found

    def _stamped(self, gen: Any) -> Generator[Any, Any, Any]:
        """psycopg's exchange, and when the last of the answer came: to make rows of it is the
        service's own time again."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                self.received_us = stamp_us()
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    def commit(self) -> None:
        """The pool asks for it each time; a statement that commits itself leaves nothing to do."""
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            super().commit()


class Database:
    """The shop's database as one role."""

    def __init__(self) -> None:
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            connection_class=TimedConnection,
            kwargs={
                "host": setting("DATABASE_HOST"),
                "port": setting("DATABASE_PORT", "5432"),
                "dbname": setting("DATABASE_NAME", "shop"),
                "user": setting("DATABASE_USER"),
                "connect_timeout": 3,
                "application_name": setting("DATABASE_USER"),
                "row_factory": dict_row,
                "cursor_factory": TimedCursor,
                "autocommit": True,  # no round trips but the statement's own
            },
            min_size=0,  # the first work makes one; while one is being made it would make another
            max_size=POOL_SIZE,
            reconnect_timeout=FIRST_PAUSE_S,  # its own next try would be a second later: see run
            open=True,
        )

    def run(self, work: Callable[[Connection], T]) -> T:
        """The work's result; done again while the server restarts, and for no other reason.

        Each statement is a transaction of its own, and the work must be safe to repeat.
        Raises psycopg.OperationalError for what it cannot do (a full disk) and, as PoolTimeout,
        when it stays away.
        """
        until = time.monotonic() + WAIT_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                with self._pool.connection(pause_s) as connection:  # makes one if there is none
                    return work(connection)
            except psycopg.OperationalError as error:
                if not _is_away(error) or time.monotonic() + pause_s > until:
                    raise
                if not isinstance(error, PoolTimeout):  # that has waited
                    time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _is_away(error: psycopg.OperationalError) -> bool:
    """Whether the connection is gone, or the server goes or comes; libpq's own errors, which say
    that nobody answers, have no SQLSTATE."""
    state = error.sqlstate
    return state is None or state.startswith("08") or state in RESTARTING
