"""The PostgreSQL probe by hand: it proves itself in every usual way, and takes no nonsense."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.processes.gate import ask
from orchestrator.processes.postgres import scram
from orchestrator.processes.probes import PostgresProbe

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def asked(kind: int, more: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", kind) + more)


def error(code: str, text: str) -> bytes:
    return message(b"E", f"SFATAL\0C{code}\0M{text}\0\0".encode())


OK, READY = asked(0), message(b"Z", b"I")
ONE = message(b"T", b"\0\0") + message(b"D", b"\0\1\0\0\0\1" + b"1") + message(b"C", b"SELECT 1\0")
NULL = message(b"D", b"\0\1\xff\xff\xff\xff")
SETTING = message(b"S", b"server_version\0" + b"15\0")
CHALLENGE = asked(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")


async def probed(talk: Talk, *passwords: str | None) -> tuple[bool, str]:
    """What the probe makes of a server that talks like that after it has been greeted."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(4))
            greeting = await reader.readexactly(size - 4)
            assert greeting[:4] == b"\0\3\0\0"
            assert b"user\0bob\0database\0shop\0" in greeting
            await talk(reader, writer)
        except asyncio.IncompleteReadError:
            pass  # the probe has left
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        probe = PostgresProbe("127.0.0.1", port, "shop", "bob", lambda: passwords)
        found = await ask(probe)
    return found.passed, found.text


async def heard(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, size = struct.unpack("!ci", await reader.readexactly(5))
    return kind, await reader.readexactly(size - 4)


def saying(*pieces: bytes) -> Talk:
    """Greets, then answers the query with the last piece."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await reader.read()

    return talk


@pytest.mark.parametrize(
    ("pieces", "passed", "says"),
    [
        ((OK, SETTING, READY, ONE, READY), True, "SELECT 1 on shop: 1"),
        ((OK, READY, SETTING, ONE, message(b"N"), READY), True, "SELECT 1 on shop: 1"),
        ((OK, READY, NULL, READY), False, "SELECT 1 on shop: None"),
        ((OK, READY, READY), False, "SELECT 1 on shop: None"),
        ((error("57P03", "the database system is starting up"),), False, "is starting up"),
        ((error("3D000", 'database "shop" does not exist'),), False, "does not exist"),
        ((OK, READY, error("57014", "canceled")), False, "canceled"),
        ((asked(7),), False, "not known here: 7"),
        ((asked(10, b"SCRAM-SHA-512\0\0"),), False, "not known here: 10"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), False, "not PostgreSQL's"),
        ((b"R\0\0\0\1",), False, "not PostgreSQL's"),
        ((message(b"R"),), False, "not PostgreSQL's"),
    ],
)
async def test_probe_passes_for_the_one_row(
    pieces: tuple[bytes, ...], passed: bool, says: str
) -> None:
    found = await probed(saying(*pieces), "secret")
    assert (found[0], says in found[1]) == (passed, True), found


@pytest.mark.parametrize("pieces", [(), (OK[:3],), (OK, READY, ONE)])
async def test_answer_that_breaks_off_is_none(pieces: tuple[bytes, ...]) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(pieces))

    passed, text = await probed(talk, "secret")
    assert (passed, "broke off" in text or "reset" in text.lower()) == (False, True), text


async def test_no_password_is_sent_where_there_is_none() -> None:
    passed, text = await probed(saying(asked(3)), None)
    assert (passed, text) == (False, "it asks for a password, and there is none")


@pytest.mark.parametrize("rounds", ["0", "-1", "1099511627776", "2147483647", "many"])
async def test_hash_that_would_cost_us_too_much_is_refused(rounds: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHALLENGE)
        nonce = (await heard(reader))[1].partition(b"r=")[2]
        writer.write(asked(11, b"r=" + nonce + b"more,s=c2FsdA==,i=" + rounds.encode()))
        await reader.read()

    assert await probed(talk, "secret") == (False, "its answer is not PostgreSQL's")


async def test_proof_of_strange_letters_is_none() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHALLENGE)
        nonce = (await heard(reader))[1].partition(b"r=")[2]
        writer.write(asked(11, b"r=" + nonce + b"more,s=c2FsdA==,i=4096"))
        await heard(reader)
        writer.write(asked(12, "v=éé".encode()))
        await reader.read()

    passed, text = await probed(talk, "secret")
    assert (passed, "does not know the password" in text) == (False, True), text


@pytest.mark.parametrize("size", [900_000, 0])
async def test_answer_without_end_is_cut(size: int) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + READY)
        with contextlib.suppress(ConnectionError):
            for _ in range(5_000):
                writer.write(message(b"D", b"x" * size))
                await writer.drain()

    assert await probed(talk, "secret") == (False, "its answer is not PostgreSQL's")


def wants(ask_for: bytes, wanted: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ask_for)
        right = await heard(reader) == (b"p", wanted)
        writer.write(OK + READY + ONE + READY if right else error("28P01", "wrong password"))
        await reader.read()

    return talk


MD5 = hashlib.md5(hashlib.md5(b"secretbob").hexdigest().encode() + b"salt").hexdigest()


@pytest.mark.parametrize(
    ("ask_for", "wanted"),
    [(asked(3), b"secret\0"), (asked(5, b"salt"), b"md5" + MD5.encode() + b"\0")],
    ids=["clear", "md5"],
)
async def test_password_is_proven(ask_for: bytes, wanted: bytes) -> None:
    assert (await probed(wants(ask_for, wanted), "secret"))[0]
    assert await probed(wants(ask_for, wanted), "old") == (False, "wrong password")
    # While a secret is rotated either of two may be right.
    assert (await probed(wants(ask_for, wanted), "old", "secret"))[0]
    assert (await probed(wants(ask_for, wanted), "secret", "new"))[0]


def scrammed(*, knows: str = "secret", nonce: str = "more") -> Talk:
    """A server that knows that password."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHALLENGE)
        _, first = await heard(reader)
        mechanism, _, rest = first.partition(b"\0")
        begin = rest[4:].decode()
        assert (mechanism, begin[:5]) == (b"SCRAM-SHA-256", "n,,n=")
        begin = begin.removeprefix("n,,")
        given = begin.partition("r=")[2] + nonce if nonce != "another" else nonce
        salt = base64.b64encode(b"salt").decode()
        challenge = f"r={given},s={salt},i=4096"
        writer.write(asked(11, challenge.encode()))
        _, last = await heard(reader)
        end, _, proof = last.decode().rpartition(",p=")
        wanted, own = scram(knows, b"salt", 4096, f"{begin},{challenge},{end}")
        if proof != wanted and knows == "secret":
            writer.write(error("28P01", "password authentication failed"))
        writer.write(asked(12, f"v={own}".encode()) + OK + READY + ONE + READY)
        await reader.read()

    return talk


async def test_scram_proves_both_sides() -> None:
    assert (await probed(scrammed(), "secret"))[0]
    assert await probed(scrammed(), "old") == (False, "password authentication failed")
    assert (await probed(scrammed(), "old", "secret"))[0]


async def test_server_that_does_not_know_the_password_is_not_believed() -> None:
    passed, text = await probed(scrammed(knows="nothing"), "secret")
    assert (passed, text) == (False, "it does not know the password that it asks for")
    passed, text = await probed(scrammed(nonce="another"), "secret")
    assert (passed, text) == (False, "its answer is not PostgreSQL's")


def test_scram_is_that_of_the_rfc() -> None:
    """RFC 7677, section 3."""
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    messages = (
        "n=user,r=rOprNGfwEbeRWgbNEkqO,"
        f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
    )
    assert scram("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096, messages) == (
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    )
