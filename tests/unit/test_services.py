"""What the services share: which errors of PostgreSQL are repeated, how long the account of a
request may become, and what JSON is clear."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import psycopg_pool
import pytest

from orchestrator.path.spans import parse

SERVICES = Path(__file__).parents[2] / "services"


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a service's own namespace."""
    monkeypatch.syspath_prepend(SERVICES)
    for name in ("DATABASE_HOST", "DATABASE_USER", "REDIS_HOST", "REDIS_USER"):
        monkeypatch.setenv(name, "x")


# -- PostgreSQL -------------------------------------------------------------------------------


class Pool:
    """Hands out nothing."""

    @contextlib.contextmanager
    def connection(self, timeout: float) -> Iterator[None]:  # noqa: ARG002
        yield


class Clock:
    """Time passes only in sleep."""

    def __init__(self) -> None:
        self.now_s, self.pauses_s = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        self.now_s += pause_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    from shared import database

    found = Clock()
    monkeypatch.setattr(database, "time", found)
    return found


def work(database: ModuleType, error: Exception, *, fails: int) -> tuple[str, int]:
    """What comes of work that fails so often, and how often it was done."""
    made = database.Database()
    made._pool = Pool()
    done = 0

    def act(_: Any) -> str:
        nonlocal done
        done += 1
        if done <= fails:
            raise error
        return "done"

    try:
        return made.run(act), done
    except psycopg.OperationalError as raised:
        return type(raised).__name__, done


AWAY = [
    psycopg.OperationalError("server closed the connection unexpectedly"),
    psycopg.errors.lookup("08006")(),
    psycopg.errors.AdminShutdown(),
    psycopg.errors.CrashShutdown(),
    psycopg.errors.CannotConnectNow(),
]
UNABLE = [
    psycopg.errors.DiskFull(),
    psycopg.errors.OutOfMemory(),
    psycopg.errors.TooManyConnections(),
    psycopg.errors.QueryCanceled(),
    psycopg.errors.IoError(),
]


@pytest.mark.parametrize("error", AWAY, ids=repr)
def test_work_is_repeated_while_the_server_is_away(clock: Clock, error: Exception) -> None:
    from shared import database

    assert work(database, error, fails=3) == ("done", 4)
    assert clock.pauses_s == sorted(clock.pauses_s)
    assert clock.pauses_s[0] < clock.pauses_s[-1]


@pytest.mark.parametrize("error", UNABLE, ids=repr)
def test_what_the_server_cannot_do_is_told_at_once(clock: Clock, error: Exception) -> None:
    from shared import database

    assert work(database, error, fails=1) == (type(error).__name__, 1)
    assert clock.pauses_s == []


def test_server_that_stays_away_is_asked_a_dozen_times(clock: Clock) -> None:
    from shared import database

    outcome, done = work(database, AWAY[0], fails=10**6)
    assert outcome == "OperationalError"
    assert 3 < done <= 12
    assert clock.now_s <= database.WAIT_S


class Empty(Pool):
    """A pool that cannot make a connection in time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.waits_s = list[float]()

    @contextlib.contextmanager
    def connection(self, timeout: float) -> Iterator[None]:
        self._clock.now_s += timeout
        self.waits_s.append(timeout)
        raise psycopg_pool.PoolTimeout
        yield


def test_connection_is_asked_for_again_and_again_without_a_pause(clock: Clock) -> None:
    """The pool makes one when it is asked: what it could not make is not made by waiting."""
    from shared import database

    made = database.Database()
    pool = made._pool = Empty(clock)
    with pytest.raises(psycopg_pool.PoolTimeout):
        made.run(lambda _: None)
    assert clock.pauses_s == []
    assert len(pool.waits_s) > 5
    assert database.WAIT_S - database.LONGEST_PAUSE_S <= clock.now_s <= database.WAIT_S


# -- the account of a request -----------------------------------------------------------------


def test_account_is_bounded_and_says_what_is_left_out() -> None:
    from shared.hops import MAX_CALLS, Frame

    top = Frame("api-gateway")
    for _ in range(40):
        callee = Frame("order-service")
        for _ in range(60):
            callee.call("postgres-db", callee.arrived_us, "error")
        below = callee.header("/orders")
        assert below.endswith(f";+{60 - MAX_CALLS}")
        top.call("order-service", callee.arrived_us, 503, below)
    header = top.header("/api/orders")
    assert len(header.split(";")) == MAX_CALLS + 2
    assert header.endswith(f";+{40 * 61 - MAX_CALLS}")
    assert len(header) < 3000
    line = "\t".join(
        ["1", "0", "0", str(10**15), str(10**15), "503", "503", "0" * 32, "/x", header]
    )
    request = parse(line, "edge")
    assert request.is_partial
    assert len(request.root.calls) == 1


def test_short_account_is_whole() -> None:
    from shared.hops import Frame

    callee = Frame("order-service")
    callee.call("postgres-db", callee.arrived_us)
    top = Frame("api-gateway")
    top.call("order-service", callee.arrived_us, 201, callee.header("/orders"))
    assert [entry.split(",")[0] for entry in top.header("/x").split(";")] == [
        "api-gateway",
        "api-gateway>order-service",
        "order-service>postgres-db",
    ]


# -- bodies -----------------------------------------------------------------------------------

CLEAR = [b'{"a": 1, "b": {"a": 1}}', b'[{"a": 1}, {"a": 1}]', b'{"a": %s}' % (b"9" * 5000), b"null"]
UNCLEAR = [
    b'{"a": 1, "a": 1}',
    b'{"b": [{"a": 1, "\\u0061": 2}]}',
    b'{"a": 1, "a": %s}' % (b"9" * 5000),
    b'{"a": 1,, "a": 2}',
    b"[" * 60_000,
    b"\xff",
    '{"a": 1, "a": 2}'.encode("utf-16"),
    b"",
]


@pytest.mark.parametrize("body", CLEAR, ids=lambda body: body[:20])
def test_body_that_can_be_read_in_one_way_is_taken(body: bytes) -> None:
    from shared.bodies import unambiguous

    assert unambiguous(body) is body


@pytest.mark.parametrize("body", UNCLEAR, ids=lambda body: body[:20])
def test_body_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    from shared.bodies import unambiguous
    from shared.problem import Problem

    with pytest.raises(Problem) as refused:
        unambiguous(body)
    assert refused.value.status == 400


# -- Redis ------------------------------------------------------------------------------------


class Silent(threading.Thread):
    """A Redis that lets everybody in, and then answers nothing."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked = 0

    def run(self) -> None:
        kept = []
        while True:
            connection, _ = self._listener.accept()
            kept.append(connection)
            while b"AUTH" not in connection.recv(4096):
                pass
            connection.sendall(b"+OK\r\n")
            assert b"MGET" in connection.recv(4096)
            self.asked += 1


def test_redis_that_says_nothing_is_a_miss() -> None:
    """After its time, and a second try on another connection."""
    from shared.cache import Cache

    server = Silent()
    server.start()
    cache = Cache()
    cache._pool.connection_kwargs.update(host="127.0.0.1", port=server.port)
    assert cache.through("products:1", lambda: b"fresh") == (b"fresh", "miss")
    assert server.asked == 2
