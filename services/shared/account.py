"""Who we are to Redis."""

from __future__ import annotations

from redis.credentials import CredentialProvider

from shared.settings import secret, setting


class Account(CredentialProvider):
    """User and password, read for each connection: passwords are rotated while we run."""

    def get_credentials(self) -> tuple[str, str]:
        return setting("REDIS_USER"), secret("REDIS_PASSWORD_FILE") or ""
