"""Redis as a cache that may be away: then everything is a miss."""

from __future__ import annotations

import logging
import threading
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
        self._pool = redis.ConnectionPool(
            connection_class=TimedConnection, retry=Retry(NoBackoff(), 1), **options(TIMEOUT_S)
        )
        self._redis = redis.Redis(connection_pool=self._pool)
        self._mine = threading.local()

    def through(self, key: str, load: Callable[[], bytes]) -> tuple[bytes, str]:
        """The value, and whether it was a `hit` or a `miss`."""
        try:
            version, value = self._ask("MGET", VERSION, key)
        except redis.RedisError as error:
            log.warning("redis: %s", error)
            return load(), "miss"
        version = version or b"0"
        if value is not None and value.startswith(version + b"\n"):
            return value[len(version) + 1 :], "hit"
        fresh = load()
        try:
            self._redis.set(key, version + b"\n" + fresh, ex=TTL_S)
        except redis.RedisError as error:
            log.warning("redis: %s", error)
        return fresh, "miss"

    def invalidate(self) -> None:
        """Makes every stored answer stale. If Redis is away they go with their TTL."""
        try:
            self._ask("INCRBY", VERSION, 1)
        except redis.RedisError as error:
            log.warning("redis: %s", error)

    def _ask(self, *words: str | int) -> Any:
        """A command that a request makes in any case. Raises redis.RedisError.

        On a connection of this thread's own, since a pool's locks and lists would take as much
        CPU again as the command.
        """
        connection: TimedConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = self._pool.make_connection()
        command = connection.pack_command(*words)

        def ask() -> Any:
            connection.connect()
            connection.send_packed_command(command)
            return connection.read_response()

        return connection.retry.call_with_retry(ask, lambda _: connection.disconnect())

    def ping(self) -> bool:
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False
