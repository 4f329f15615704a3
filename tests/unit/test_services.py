"""What the services share: which errors of PostgreSQL are repeated, how long the account of a
request may become, and what JSON is clear."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import pytest
import redis

from orchestrator.path.spans import parse

SERVICES = Path(__file__).parents[2] / "services"


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a service's own namespace."""
    monkeypatch.syspath_prepend(SERVICES)
    for name in ("DATABASE_HOST", "DATABASE_USER", "REDIS_HOST", "REDIS_USER"):
        monkeypatch.setenv(name, "x")


# -- PostgreSQL -------------------------------------------------------------------------------


class Connection:
    """One that says nothing, and how many there are."""

    made, closed = 0, 0

    def __init__(self, timeout_s: float) -> None:
        assert timeout_s > 0
        Connection.made += 1
        self.is_open = True

    def is_closed(self) -> bool:
        return not self.is_open

    def close(self) -> None:
        Connection.closed += 1


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
    monkeypatch.setattr(database, "Connection", Connection)
    monkeypatch.setattr(Connection, "made", 0)
    monkeypatch.setattr(Connection, "closed", 0)
    return found


def work(database: ModuleType, error: Exception, *, fails: int) -> tuple[str, int]:
    """What comes of work that fails so often, and how often it was done."""
    made = database.Database()
    done = 0

    def act(_: Any) -> str:
        nonlocal done
        done += 1
        if done <= fails:
            raise error
        return "done"

    try:
        return made.run(act), done
    except database.NoDatabaseError:
        return "no database", done


AWAY = [
    ConnectionRefusedError("Connect call failed"),
    TimeoutError(),
    socket.gaierror("Name or service not known"),
    asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    asyncpg.ConnectionFailureError(""),
    asyncpg.AdminShutdownError(""),
    asyncpg.CrashShutdownError(""),
    asyncpg.CannotConnectNowError(""),
]
UNABLE = [
    asyncpg.DiskFullError(""),
    asyncpg.OutOfMemoryError(""),
    asyncpg.TooManyConnectionsError(""),
    asyncpg.QueryCanceledError(""),
    asyncpg.PostgresIOError(""),
    asyncpg.DeadlockDetectedError(""),
    asyncpg.ReadOnlySQLTransactionError(""),
]


@pytest.mark.parametrize("error", AWAY, ids=repr)
def test_work_is_repeated_while_the_server_is_away(clock: Clock, error: Exception) -> None:
    from shared import database

    assert work(database, error, fails=3) == ("done", 4)
    assert clock.pauses_s == sorted(clock.pauses_s)
    assert clock.pauses_s[0] < clock.pauses_s[-1]
    assert (Connection.made, Connection.closed) == (4, 3)  # none of the old server's is kept


@pytest.mark.parametrize("error", UNABLE, ids=repr)
def test_what_the_server_cannot_do_is_told_at_once(clock: Clock, error: Exception) -> None:
    from shared import database

    assert work(database, error, fails=1) == ("no database", 1)
    assert clock.pauses_s == []
    assert (Connection.made, Connection.closed) == (1, 0)


def test_server_that_stays_away_is_asked_a_dozen_times(clock: Clock) -> None:
    from shared import database

    outcome, done = work(database, AWAY[0], fails=10**6)
    assert outcome == "no database"
    assert 3 < done <= 12
    assert clock.now_s <= database.WAIT_S


@pytest.mark.usefixtures("clock")
def test_error_of_a_statement_is_its_caller_s_and_the_connection_is_kept() -> None:
    from shared import database

    made = database.Database()

    def fail(_: Any) -> None:
        raise asyncpg.UniqueViolationError

    for _ in range(2):
        with pytest.raises(asyncpg.UniqueViolationError):
            made.run(fail)
    assert (Connection.made, Connection.closed) == (1, 0)


@pytest.mark.usefixtures("clock")
def test_closed_connection_is_not_used_again() -> None:
    from shared import database

    made = database.Database()

    def end(connection: Any) -> None:
        connection.is_open = False

    made.run(end)
    made.run(lambda _: None)
    assert (Connection.made, Connection.closed) == (2, 1)


class Lost:
    """asyncpg's connection, which was lost after a statement."""

    async def fetch(self, *_: object) -> None:
        raise asyncpg.InterfaceError("the underlying connection is closed")

    def is_closed(self) -> bool:
        return True

    def terminate(self) -> None:
        raise AssertionError("it has answered in time")


def test_connection_that_is_lost_between_two_statements_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from shared import database

    async def connect(timeout_s: float) -> Lost:
        return Lost()

    monkeypatch.setattr(database, "_connect", connect)
    lost = database.Connection(1.0)
    with pytest.raises(ConnectionError, match="is closed"):
        lost.fetch("SELECT 1")
    lost._loop.close()


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


def test_redis_that_says_nothing_is_a_miss_and_not_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from shared import cache as module

    server = Silent()
    server.start()
    here = {**module.options(module.TIMEOUT_S), "host": "127.0.0.1", "port": server.port}
    monkeypatch.setattr(module, "options", lambda _: here)
    monkeypatch.setattr(module, "AWAY_S", 3600)
    cache = module.Cache()
    for _ in range(2):
        assert cache.through("products:1", lambda: b"fresh") == (b"fresh", "miss")
    assert server.asked == 1


def test_redis_that_refuses_is_told_once_and_asked_after_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it refuses in other words, or has given in meanwhile."""
    from shared import cache as module

    answers: list[bytes] = []
    pauses = []

    class Connection:
        def pack_command(self, *words: object) -> object:
            return words

        def connect(self) -> None: ...

        def send_packed_command(self, packed: object) -> None: ...

        def read_response(self) -> int:
            if answer := answers.pop(0):
                raise redis.ResponseError(answer.decode())
            return 1

    class Timer(threading.Timer):
        def start(self) -> None:
            pauses.append(self.interval)

    monkeypatch.setattr(module.threading, "Timer", Timer)
    cache = module.Cache()
    monkeypatch.setattr(cache, "_connection", Connection)
    answers += [b"NOPERM incrby"] * 8 + [b"NOPERM key", b"", b"NOPERM key"]
    cache.invalidate()
    for _ in range(8):
        cache._make_up()
    assert [record.getMessage() for record in caplog.records] == [
        "redis: NOPERM incrby",
        "redis: NOPERM key",
    ]
    assert pauses == [2, 4, 8, 16, 30, 30, 30, 30, 30]
    cache._make_up()  # allowed
    cache.invalidate()  # no longer
    assert len(caplog.records) == 3
    assert pauses[9:] == [2]


def test_session_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway import sessions

    monkeypatch.setattr(sessions, "LONGEST_S", 0.01)
    with pytest.raises(redis.TimeoutError, match=r"no answer within 0\.01 s"):
        asyncio.run(sessions._ask(lambda _: asyncio.Event().wait()))


# -- deadlines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "status"), [("1", 503), ("9" * 18, 200), ("9" * 5000, 200), ("soon", 200), ("", 200)]
)
def test_request_that_nobody_waits_for_is_not_carried_out(stamp: str, status: int) -> None:
    from shared.web import make_app

    said = make_app("product-service").test_client().get("/health", headers={"X-Deadline": stamp})
    assert said.status_code == status
