"""Proof by protocol: each probe asks once and tells what came back.

All are asked by hand: libraries take longer to load than everything else of a command, for a
line that is sent and a line that comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from orchestrator.processes import connecting, exchange, postgres

PROBE_TIMEOUT_S = 2.0

# Those that may be right: two while a secret is being rotated.
Passwords = Callable[[], Sequence[str | None]]


class Answer(Struct, frozen=True):
    """Whether the proof holds, and what came back in a few words."""

    passed: bool
    text: str


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


class TcpProbe(Struct, frozen=True):
    """Something accepts connections there."""

    host: str
    port: int
    kind: str = "tcp"

    async def check(self) -> Answer:
        (await connecting.connected(self.host, self.port)).close()
        return Answer(True, "accepts")


class HttpProbe(Struct, frozen=True):
    """GET gives the status, and a body that contains the text."""

    url: str
    status: int
    contains: str
    kind: str = "http"

    async def check(self) -> Answer:
        reply = await exchange.request("GET", self.url)
        if reply.status != self.status:
            found = f"status {reply.status}, wanted {self.status}"
            return Answer(False, f"{found}: {brief(reply.text)}")
        if self.contains not in reply.text:
            return Answer(False, f"{self.contains!r} is not in the answer: {brief(reply.text)}")
        return Answer(True, f"status {reply.status}")


class PostgresProbe(Struct, frozen=True):
    """SELECT 1 on the right database, with the password."""

    host: str
    port: int
    database: str
    user: str
    passwords: Passwords
    kind: str = "postgres"

    async def check(self) -> Answer:
        refused = ""
        for password in self.passwords():
            try:
                value = await postgres.first_value(
                    self.host,
                    self.port,
                    database=self.database,
                    user=self.user,
                    password=password,
                    query="SELECT 1",
                )
            except postgres.RefusedError as error:
                refused = str(error)
                if not error.is_about_password:
                    break
            else:
                return Answer(value == "1", f"SELECT 1 on {self.database}: {value}")
        return Answer(False, refused)


class RedisProbe(Struct, frozen=True):
    """PING answers PONG."""

    host: str
    port: int
    user: str | None
    passwords: Passwords
    kind: str = "redis"

    async def check(self) -> Answer:
        # Redis takes either of two: that of now is right at any time.
        password = self.passwords()[0]
        reader, writer = await connecting.streams(self.host, self.port)
        try:
            if password is not None:
                writer.write(_command("AUTH", *([self.user] if self.user else []), password))
                if (answer := await _line(reader)) != "+OK":
                    return Answer(False, answer.removeprefix("-"))
            writer.write(_command("PING"))
            answer = await _line(reader)
        finally:
            writer.close()
        return Answer(answer == "+PONG", answer[1:])


def _command(*words: str) -> bytes:
    """As Redis reads it: redis.io/docs/latest/develop/reference/protocol-spec."""
    texts = (b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, words))
    return b"".join([b"*%d\r\n" % len(words), *texts])


async def _line(reader: asyncio.StreamReader) -> str:
    """A simple answer or an error. Raises ConnectionResetError where it breaks off."""
    line = await reader.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("it broke off its answer")
    return line[:-2].decode(errors="replace")
