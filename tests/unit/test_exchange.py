"""Probes by hand: what they send, and what they make of answers of every kind."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.processes.check import CheckProbe, Request
from orchestrator.processes.exchange import request
from orchestrator.processes.gate import ask
from orchestrator.processes.probes import HttpProbe, RedisProbe


class Server:
    """Says these bytes to whoever connects, in pieces, once it has heard `until`."""

    def __init__(self, *pieces: bytes, until: bytes) -> None:
        self._pieces, self._until = pieces, until
        self.heard = b""

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard += await reader.readuntil(self._until)
        for piece in self._pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()


HEAD = b"\r\n\r\n"


async def test_request_is_http_1_0_with_host_headers_and_body() -> None:
    async with Server(b"HTTP/1.1 201 Created\r\n\r\n", b"{}", until=b'{"a": 1}') as server:
        url = f"http://127.0.0.1:{server.port}/orders?x=1"
        reply = await request("POST", url, {"X-One": "1"}, b'{"a": 1}')
    assert (reply.status, reply.text) == (201, "{}")
    first, *lines = server.heard.partition(HEAD)[0].decode().split("\r\n")
    assert first == "POST /orders?x=1 HTTP/1.0"
    assert {f"Host: 127.0.0.1:{server.port}", "X-One: 1", "Content-Length: 8"} <= {*lines}


@pytest.mark.parametrize(
    ("answer", "passed", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", True, "status 200"),
        (b"HTTP/1.0 200\r\n\r\nit is OK", True, "status 200"),
        (b"HTTP/1.1 200 OK\r\n\r\nno", False, "'OK' is not in the answer: no"),
        (b"HTTP/1.1 302 Found\r\nLocation: /OK\r\n\r\n", False, "status 302, wanted 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nOK", False, "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-", False, "not HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, "not HTTP"),
        (b"", False, "closed the connection"),
    ],
)
async def test_http_probe_passes_for_the_whole_answer_that_is_wanted(
    answer: bytes, passed: bool, says: str
) -> None:
    async with Server(answer[:7], answer[7:], until=HEAD) as server:
        found = await ask(HttpProbe(f"http://127.0.0.1:{server.port}/", 200, "OK"))
    assert (found.passed, says in found.text) == (passed, True), found.text


AUTH = b"*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$6\r\ngeh\xc3\xa4m\r\n"
PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.parametrize(
    ("answer", "password", "heard", "passed", "says"),
    [
        (b"+OK\r\n+PONG\r\n", "gehäm", AUTH, True, "PONG"),
        (b"+PONG\r\n", None, PING, True, "PONG"),
        (b"-WRONGPASS no\r\n", "gehäm", AUTH, False, "WRONGPASS no"),
        (b"-LOADING the data\r\n", None, PING, False, "LOADING the data"),
        (b"+PON", None, PING, False, "broke off"),
    ],
)
async def test_redis_probe_passes_for_pong(
    answer: bytes, password: str | None, heard: bytes, passed: bool, says: str
) -> None:
    async with Server(answer, until=heard[-8:]) as server:
        probe = RedisProbe("127.0.0.1", server.port, "bob", lambda: [password])
        found = await ask(probe)
    assert server.heard.startswith(heard)
    assert (found.passed, says in found.text) == (passed, True), found.text


def step(url: str, *, headers: dict[str, str] | None = None, **save: str) -> Request:
    return Request("GET", url, headers or {}, None, 200, "", (), save)


SAVED = b'HTTP/1.1 200 OK\r\n\r\n{"id": "a\\r\\nb \\ud800/\xc3\xa9"}'


async def test_saved_value_is_escaped_in_a_url_whatever_it_is() -> None:
    async with Server(SAVED, until=HEAD) as first, Server(SAVED, until=HEAD) as server:
        steps = [
            step(f"http://127.0.0.1:{first.port}/", name="id"),
            step(f"http://127.0.0.1:{server.port}/x/{{name}}?a=%20"),
        ]
        assert (await ask(CheckProbe(steps))).passed
    assert server.heard.startswith(b"GET /x/a%0D%0Ab%20?/%C3%A9?a=%20 HTTP/1.0\r\n")


async def test_saved_value_makes_no_header_of_its_own() -> None:
    async with Server(SAVED, until=HEAD) as server:
        url = f"http://127.0.0.1:{server.port}/"
        steps = [step(url, name="id"), step(url, headers={"X-Id": "{name}"})]
        answer = await ask(CheckProbe(steps))
    assert not answer.passed
    assert "header X-Id is not printable" in answer.text
