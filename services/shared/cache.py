"""Redis as a cache that may be away: then everything is a miss."""

from __future__ import annotations

import logging
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.settings import secret, setting

log = logging.getLogger(__name__)

VERSION = "products:version"  # goes up with every change of stock
TTL_S = 30
TIMEOUT_S = 0.5


class Cache:
    """Answers by key, each valid for one version of the catalogue.

    A reader notes the version before it reads the database. What it stores is only taken for
    that version, so a slow reader cannot put an old answer back after a change.
    """

    def __init__(self) -> None:
        self._redis = redis.Redis(
            host=setting("REDIS_HOST"),
            port=int(setting("REDIS_PORT", "6379")),
            password=secret("REDIS_PASSWORD_FILE"),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )

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
