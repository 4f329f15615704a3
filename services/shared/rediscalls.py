"""What every connection to Redis has in common, blocking or not: who we are, and how its
commands are accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import ResponseError
from redis.credentials import CredentialProvider

from shared.hops import frame
from shared.settings import secret, setting

HOP = setting("REDIS_HOST")  # services are called by their names


class Account(CredentialProvider):
    """User and password, read for each connection: passwords are rotated while we run."""

    def get_credentials(self) -> tuple[str, str]:
        return setting("REDIS_USER"), secret("REDIS_PASSWORD_FILE") or ""


def options(timeout_s: float) -> dict[str, Any]:
    """Of a pool of connections."""
    return {
        "host": HOP,
        "port": int(setting("REDIS_PORT", "6379")),
        "credential_provider": Account(),
        "driver_info": None,  # it would tell the server of itself, which no account may
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }


@contextmanager
def answered(sent_us: int) -> Iterator[None]:
    """Accounts for a command that was sent then and is answered in the block."""
    result = "error"
    try:
        yield
        result = "ok"
    except ResponseError:
        result = "ok"  # an answer, if not the one that was hoped for
        raise
    finally:
        if current := frame.get():
            current.call(HOP, sent_us, result)
