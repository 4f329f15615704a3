"""Redis as a cache that may be away: then everything is a miss."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.hops import calling, frame, stamp_us
from shared.rediscalls import HOP, answered, options

log = logging.getLogger(__name__)

VERSION = "products:version"  # goes up with every change of stock
TTL_S = 30
TIMEOUT_S = 0.5
AWAY_S = 1.0  # so long a Redis that did not answer in time is not asked
LONGEST_S = 30.0  # between tries of what was refused: only somebody's change of rights helps
ONCE = Retry(NoBackoff(), 0)
AGAIN = Retry(NoBackoff(), 1, (redis.ConnectionError,))  # not what took its time already


class TimedConnection(redis.Connection):
    """Accounts for the time between a command and its answer."""

    def connect(self) -> None:
        if self._sock:  # asked for with every command, and there already
            return
        with calling(HOP):
            super().connect()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._sent_us = stamp_us()
        super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        if frame.get() is None:
            return super().read_response(*args, **kwargs)
        with answered(self._sent_us):
            return super().read_response(*args, **kwargs)


class Cache:
    """Answers by key, each valid for one version of the catalogue.

    A reader notes the version before it reads the database. What it stores is only taken for
    that version, so a slow reader cannot put an old answer back after a change.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._away_until_s = 0.0  # by CLOCK_MONOTONIC; 0 while it answers
        self._once_more: threading.Timer | None = None
        self._pause_s = AWAY_S
        self._told: dict[str, str] = {}  # by command: why it failed the last time

    def through(self, key: str, load: Callable[[], bytes]) -> tuple[bytes, str]:
        """The value, and whether it was a `hit` or a `miss`."""
        try:
            version, value = self._ask("MGET", VERSION, key)
        except redis.RedisError:
            return load(), "miss"
        version = version or b"0"
        if value is not None and value.startswith(version + b"\n"):
            return value[len(version) + 1 :], "hit"
        fresh = load()
        with contextlib.suppress(redis.RedisError):
            self._ask("SET", key, version + b"\n" + fresh, "EX", TTL_S)
        return fresh, "miss"

    def invalidate(self) -> None:
        """Makes every stored answer stale; if Redis is away, as soon as it is back; if it refuses,
        after pauses that grow."""
        try:
            self._ask("INCRBY", VERSION, 1)
            self._pause_s = AWAY_S
        except redis.RedisError as error:
            if self._once_more is None:
                is_refused = isinstance(error, redis.ResponseError)
                self._pause_s = min(2 * self._pause_s, LONGEST_S) if is_refused else AWAY_S
                self._once_more = threading.Timer(self._pause_s, self._make_up)
                self._once_more.daemon = True
                self._once_more.start()

    def _make_up(self) -> None:
        self._once_more = None  # first: whoever fails from here on owes one of their own
        self.invalidate()

    def ping(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._ask("PING"))
        except redis.RedisError:
            return False

    def _ask(self, command: str, *words: str | bytes | int) -> Any:
        """The answer to a command. Raises redis.RedisError.

        A connection that ended meanwhile costs no answer; one that hangs costs TIMEOUT_S, once:
        until AWAY_S are over nobody asks, and then one alone.
        """
        if self._away_until_s:
            now_s = time.monotonic()
            if now_s < self._away_until_s:
                raise redis.ConnectionError("it did not answer a moment ago")
            self._away_until_s = now_s + AWAY_S
        connection = self._connection()
        packed = connection.pack_command(command, *words)

        def ask() -> Any:
            connection.connect()
            connection.send_packed_command(packed)
            return connection.read_response()

        try:
            answer = AGAIN.call_with_retry(ask, lambda _: connection.disconnect())
        except redis.RedisError as error:
            if self._told.get(command) != str(error):  # not over and over
                self._told[command] = str(error)
                log.warning("redis: %s", error)
            if isinstance(error, redis.TimeoutError):
                self._away_until_s = time.monotonic() + AWAY_S
            raise
        self._away_until_s = 0.0
        self._told.pop(command, None)
        return answer

    def _connection(self) -> TimedConnection:
        """This thread's own: a pool's locks and lists would take as much CPU as a command."""
        connection: TimedConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = TimedConnection(retry=ONCE, **options(TIMEOUT_S))
        return connection
