"""PostgreSQL through a pool of connections that survives a restart of the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from shared.hops import calling
from shared.settings import passwords, setting

T = TypeVar("T")
Connection = psycopg.Connection[dict[str, Any]]

HOP = setting("DATABASE_HOST")  # services are called by their names
POOL_SIZE = 4  # one for each thread that serves requests
WAIT_S = 3.0  # for a free connection, and for a server that is restarting
PAUSE_S = 0.05
REFUSED = "password authentication failed"  # libpq has no code for it: the server's words


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

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        with calling(HOP):
            return super().wait(*args, **kwargs)


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
            },
            min_size=1,
            max_size=POOL_SIZE,
            timeout=WAIT_S,
            reconnect_timeout=30,
            # Opened with the first work: a first try while the database is still being made
            # would be followed by the next one only after a second.
            open=False,
        )

    def run(self, work: Callable[[Connection], T]) -> T:
        """The work's result, in one transaction; done again while the server restarts.

        So the work must be safe to repeat. Raises psycopg.OperationalError or PoolTimeout
        when the server stays away.
        """
        until = time.monotonic() + WAIT_S
        if self._pool.closed:
            self._pool.open()
        while True:
            try:
                with self._pool.connection() as connection:
                    return work(connection)
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(PAUSE_S)  # the pool makes new connections meanwhile
