"""One query to PostgreSQL, by hand: its library takes 90 ms to load, while the platform starts.

Protocol 3.0: https://www.postgresql.org/docs/15/protocol.html; SCRAM-SHA-256: RFC 5802, RFC 7677.
Passwords are sent as they are in UTF-8: those that a lab makes are ASCII.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import struct

from orchestrator.processes import connecting

PROTOCOL = 3 << 16
LIMIT_BYTES = 1_000_000  # of one answer; longer ones are not PostgreSQL's
MOST_MESSAGES = 1_000  # of one answer
MOST_ROUNDS = 100_000  # of its hash, which we pay for; PostgreSQL 15 uses 4,096
MECHANISM = b"SCRAM-SHA-256"
NO_BINDING = "n,,"  # the connection is not encrypted, so there is nothing to bind to
WRONG_PASSWORD = "28P01"  # invalid_password of errcodes
ASIDE = b"NSAK"  # a notice, a setting, a notification, the key to cancel with: nobody asked


class RefusedError(Exception):
    """What the server says instead of an answer, with its SQLSTATE."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.is_about_password = code == WRONG_PASSWORD


async def first_value(
    host: str, port: int, *, database: str, user: str, password: str | None, query: str
) -> str | None:
    """The first column of the query's first row; None if that is NULL or there is none.

    Raises RefusedError, OSError.
    """
    reader, writer = await connecting.streams(host, port)
    session = _Session(reader, writer)
    try:
        settings = {"user": user, "database": database, "application_name": "orchestrator"}
        words = "".join(f"{name}\0{value}\0" for name, value in settings.items())
        session.send(b"", struct.pack("!i", PROTOCOL) + words.encode() + b"\0")
        await session.log_in(user, password)
        await session.until(b"Z")
        session.send(b"Q", query.encode() + b"\0")
        rows = await session.until(b"Z")
        session.send(b"X")
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("it broke off its answer") from error
    finally:
        writer.close()
    return next((_first(body) for kind, body in rows if kind == b"D"), None)


class _Session:
    """Messages to and from one server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, kind: bytes, body: bytes = b"") -> None:
        self._writer.write(kind + struct.pack("!i", len(body) + 4) + body)

    async def read(self) -> tuple[bytes, bytes]:
        """The next message that is an answer. Raises RefusedError for an error."""
        while True:
            kind, size = struct.unpack("!ci", await self._reader.readexactly(5))
            if not 4 <= size < LIMIT_BYTES:
                raise _stranger()
            body = await self._reader.readexactly(size - 4)
            if kind == b"E":
                raise _refusal(body)
            if kind not in ASIDE:
                return kind, body

    async def until(self, last: bytes) -> list[tuple[bytes, bytes]]:
        """Every message up to that kind."""
        found: list[tuple[bytes, bytes]] = []
        size = 0
        while not found or found[-1][0] != last:
            found.append(await self.read())
            size += len(found[-1][1])
            if size > LIMIT_BYTES or len(found) > MOST_MESSAGES:
                raise _stranger()
        return found

    async def _asked(self) -> tuple[int, bytes]:
        """What the server wants for proof: the kind, and what comes with it."""
        kind, body = await self.read()
        if kind != b"R" or len(body) < 4:
            raise _stranger()
        return int.from_bytes(body[:4]), body[4:]

    async def log_in(self, user: str, password: str | None) -> None:
        """Raises RefusedError."""
        kind, more = await self._asked()
        if kind == 0:
            return
        if password is None:
            raise RefusedError("it asks for a password, and there is none")
        if kind == 3:
            self.send(b"p", password.encode() + b"\0")
        elif kind == 5:
            inner = hashlib.md5((password + user).encode()).hexdigest()
            digest = hashlib.md5(inner.encode() + more).hexdigest()
            self.send(b"p", b"md5" + digest.encode() + b"\0")
        elif kind == 10 and MECHANISM in more.split(b"\0"):
            await self._scram(password)
        else:
            raise RefusedError(f"it asks for a proof of a kind that is not known here: {kind}")
        if (await self._asked())[0] != 0:
            raise _stranger()

    async def _scram(self, password: str) -> None:
        nonce = secrets.token_urlsafe(18)
        begin = f"n=,r={nonce}"
        first = (NO_BINDING + begin).encode()
        self.send(b"p", MECHANISM + b"\0" + struct.pack("!i", len(first)) + first)
        challenge = await self._said(11)
        given = _fields(challenge)
        if not given.get("r", "").startswith(nonce):
            raise _stranger()
        end = f"c={base64.b64encode(NO_BINDING.encode()).decode()},r={given['r']}"
        try:
            salt, rounds = base64.b64decode(given["s"]), int(given["i"])
        except (KeyError, ValueError) as error:
            raise _stranger() from error
        if not 1 <= rounds <= MOST_ROUNDS:
            raise _stranger()
        # Some milliseconds, meant to be many: not on the loop's thread.
        proof, signature = await asyncio.to_thread(
            scram, password, salt, rounds, f"{begin},{challenge},{end}"
        )
        self.send(b"p", f"{end},p={proof}".encode())
        said = _fields(await self._said(12)).get("v", "")
        if not hmac.compare_digest(said.encode(), signature.encode()):
            raise RefusedError("it does not know the password that it asks for")

    async def _said(self, wanted: int) -> str:
        kind, more = await self._asked()
        if kind != wanted:
            raise _stranger()
        return more.decode(errors="replace")


def scram(password: str, salt: bytes, rounds: int, messages: str) -> tuple[str, str]:
    """The client's proof, and the signature by which the server proves itself, in base64."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    key = _hmac(salted, b"Client Key")
    signature = _hmac(hashlib.sha256(key).digest(), messages.encode())
    proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
    own = _hmac(_hmac(salted, b"Server Key"), messages.encode())
    return base64.b64encode(proof).decode(), base64.b64encode(own).decode()


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _fields(text: str) -> dict[str, str]:
    """`r=…,s=…,i=…`."""
    return {name: value for name, _, value in (each.partition("=") for each in text.split(","))}


def _first(row: bytes) -> str | None:
    """The first column of a DataRow."""
    if int.from_bytes(row[:2]) == 0:
        return None
    size = int.from_bytes(row[2:6], signed=True)
    return None if size < 0 else row[6 : 6 + size].decode(errors="replace")


def _refusal(body: bytes) -> RefusedError:
    """An ErrorResponse: fields of a letter and a text each."""
    fields = {each[:1]: each[1:].decode(errors="replace") for each in body.split(b"\0") if each}
    return RefusedError(fields.get(b"M", "an error without words"), fields.get(b"C", ""))


def _stranger() -> ConnectionResetError:
    return ConnectionResetError("its answer is not PostgreSQL's")
