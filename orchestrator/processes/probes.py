"""Proof by protocol: each probe asks once and tells what came back.

Libraries are imported when the first probe of their kind is asked: they cost more time than
everything else that a command loads. `load` does it beforehand.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

PROBE_TIMEOUT_S = 2.0
BODY_LIMIT_BYTES = 1_000_000

# By the kind of the probe, in the order in which they are wanted first when a lab comes up.
LIBRARIES = {"redis": "redis.asyncio", "postgres": "asyncpg", "http": "aiohttp"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the proof holds, and what came back in a few words."""

    passed: bool
    text: str


def load(kinds: Collection[str]) -> None:
    """Imports what probes of these kinds need; for a thread."""
    for kind, library in LIBRARIES.items():
        if kind in kinds:
            importlib.import_module(library)


def brief(body: str) -> str:
    """The beginning of a body on one line."""
    return " ".join(body[:400].split())[:120]


class Probe(Protocol):
    """Asks once."""

    @property
    def kind(self) -> str: ...

    async def check(self) -> Answer:
        """Raises OSError or TimeoutError where there is no answer at all."""
        ...


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Something accepts connections there."""

    host: str
    port: int
    kind: str = "tcp"

    async def check(self) -> Answer:
        _, writer = await asyncio.open_connection(self.host, self.port)
        writer.close()
        return Answer(True, "accepts")


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """GET gives the status, and a body that contains the text."""

    url: str
    status: int
    contains: str
    kind: str = "http"

    async def check(self) -> Answer:
        import aiohttp

        try:
            async with aiohttp.ClientSession() as session, session.get(self.url) as response:
                body = (await response.content.read(BODY_LIMIT_BYTES)).decode(errors="replace")
        except aiohttp.ClientError as error:
            raise OSError(str(error) or type(error).__name__) from error
        if response.status != self.status:
            return Answer(False, f"status {response.status}, wanted {self.status}: {brief(body)}")
        if self.contains not in body:
            return Answer(False, f"{self.contains!r} is not in the answer: {brief(body)}")
        return Answer(True, f"status {response.status}")


@dataclass(frozen=True, slots=True)
class PostgresProbe:
    """SELECT 1 on the right database, with the password."""

    host: str
    port: int
    database: str
    user: str
    password: Callable[[], str | None]
    kind: str = "postgres"

    async def check(self) -> Answer:
        import asyncpg

        try:
            connection = await asyncpg.connect(
                host=self.host,
                port=self.port,
                database=self.database,
                user=self.user,
                password=self.password(),
                timeout=PROBE_TIMEOUT_S,
                ssl=False,
            )
            try:
                value = await connection.fetchval("SELECT 1")
            finally:
                await connection.close(timeout=PROBE_TIMEOUT_S)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return Answer(False, str(error))
        return Answer(value == 1, f"SELECT 1 on {self.database}: {value}")


@dataclass(frozen=True, slots=True)
class RedisProbe:
    """PING answers PONG."""

    host: str
    port: int
    user: str | None
    password: Callable[[], str | None]
    kind: str = "redis"

    async def check(self) -> Answer:
        import redis.asyncio as redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        client = redis.Redis(
            host=self.host,
            port=self.port,
            username=self.user,
            password=self.password(),
            socket_timeout=PROBE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # asking again is the gate's work
        )
        try:
            answer = await client.ping()  # type: ignore[misc]
        except redis.ConnectionError as error:
            raise OSError(str(error)) from error
        except redis.RedisError as error:
            return Answer(False, str(error))
        finally:
            await client.aclose()
        return Answer(bool(answer), "PONG")
