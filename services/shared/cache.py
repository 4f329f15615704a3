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
from shared.settings import secret, setting

log = logging.getLogger(__name__)

HOP = setting("REDIS_HOST")  # services are called by their names
VERSION = "products:version"  # goes up with every change of stock
TTL_S = 30
TIMEOUT_S = 0.5


class TimedConnection(redis.Connection):
    """Accounts for the time between a command and its answer."""

    def connect(self) -> None:
        with calling(HOP):
            super().connect()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._sent_us = stamp_us()
        super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        result = "error"
        try:
            answer = super().read_response(*args, **kwargs)
            result = "ok"
        except redis.ResponseError:
            result = "ok"  # an answer, if not the one that was hoped for
            raise
        finally:
            if current := frame.get():
                current.call(HOP, self._sent_us, result)
        return answer


class Cache:
    """Answers by key, each valid for one version of the catalogue.

    A reader notes the version before it reads the database. What it stores is only taken for
    that version, so a slow reader cannot put an old answer back after a change.
    """

    def __init__(self) -> None:
        self._pool = redis.ConnectionPool(
            connection_class=TimedConnection,
            host=setting("REDIS_HOST"),
            port=int(setting("REDIS_PORT", "6379")),
            password=secret("REDIS_PASSWORD_FILE"),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = redis.Redis(connection_pool=self._pool)
        self._mine = threading.local()

    def through(self, key: str, load: Callable[[], bytes], *, bypass: bool) -> tuple[bytes, str]:
        """The value, and whether it was a `hit`, a `miss` or a `bypass`."""
        version = b""
        if not bypass:
            try:
                found, value = self._ask("MGET", VERSION, key)
            except redis.RedisError as error:
                log.warning("redis: %s", error)
                return load(), "miss"
            version = found or b"0"
            if value is not None and value.startswith(version + b"\n"):
                return value[len(version) + 1 :], "hit"
        fresh = load()
        if not bypass:
            try:
                self._redis.set(key, version + b"\n" + fresh, ex=TTL_S)
            except redis.RedisError as error:
                log.warning("redis: %s", error)
        return fresh, "bypass" if bypass else "miss"

    def invalidate(self) -> None:
        """Makes every stored answer stale. If Redis is away they go with their TTL."""
        try:
            self._ask("INCR", VERSION)
        except redis.RedisError as error:
            log.warning("redis: %s", error)

    def _ask(self, *words: str) -> Any:
        """A command that a request makes in any case. Raises redis.RedisError.

        On a connection of this thread's own, since a pool's locks and lists would take as much
        CPU again as the command.
        """
        connection: TimedConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = self._pool.make_connection()
        command = connection.pack_command(*words)

        def ask() -> Any:
            connection.send_packed_command(command)
            return connection.read_response()

        return connection.retry.call_with_retry(ask, lambda _: connection.disconnect())

    def ping(self) -> bool:
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False
