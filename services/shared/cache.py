"""Redis as a cache that may be away: then everything is a miss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.account import Account
from shared.hops import calling, frame, stamp_us
from shared.settings import setting

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
        pool = redis.ConnectionPool(
            connection_class=TimedConnection,
            host=setting("REDIS_HOST"),
            port=int(setting("REDIS_PORT", "6379")),
            credential_provider=Account(),
            driver_info=None,  # it would tell the server of itself, which no account may
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = redis.Redis(connection_pool=pool)

    def through(self, key: str, load: Callable[[], bytes], *, bypass: bool) -> tuple[bytes, str]:
        """The value, and whether it was a `hit`, a `miss` or a `bypass`."""
        version = b""
        if not bypass:
            try:
                found, value = self._redis.mget(VERSION, key)  # type: ignore[misc]
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
            self._redis.incr(VERSION)
        except redis.RedisError as error:
            log.warning("redis: %s", error)

    def ping(self) -> bool:
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False
