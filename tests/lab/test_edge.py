"""What hostile clients send to port 8080, and what a service could send to the gateway: it is
answered or cut off, nobody else waits for it, and the logs stay true and silent."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from names import next_name
from raw import Answer, ask, connect, receive
from rig import HOST_ADDRESS, SHOP, World, eventually
from tricks import HEAD, POST, TRICKS

EDGE, GATEWAY = ("127.0.0.1", 8080), ("10.0.0.20", 3000)
FROM_OUTSIDE = (HOST_ADDRESS, 8080)
ANOTHER_ADDRESS = "203.0.113.7"
RATE, BURST = 10, 400  # of one client, so low that a test can go beyond it
CLIENT_CONNECTIONS, IN_FLIGHT, BODIES = 64, 96, 80
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
GOOD = HEAD + b"\r\n"
HALF_A_BODY = POST + b'Content-Length: 100\r\n\r\n{"customer_id"'


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The shop with smaller limits, as anybody may set them in the stack file."""
    directory = tmp_path_factory.mktemp("edge")
    directory.chmod(0o755)
    stack = shutil.copytree(SHOP.parent, directory / "services") / SHOP.name
    data = yaml.safe_load(stack.read_text())
    data["services"]["nginx-lb"]["environment"] = {
        "CLIENT_REQUESTS_PER_S": str(RATE),
        "CLIENT_BURST": str(BURST),
        "CLIENT_CONNECTIONS": str(CLIENT_CONNECTIONS),
        "BODIES": str(BODIES),
    }
    data["services"]["api-gateway"]["environment"]["MAX_IN_FLIGHT"] = str(IN_FLIGHT)
    stack.write_text(yaml.safe_dump(data))
    built = World.build(next_name(), directory)
    world = World(built.host, built.outside, built.state, built.run_dir, stack)
    try:
        world.outside_("ip", "address", "add", f"{ANOTHER_ADDRESS}/24", "dev", "eth0").ok()
        world.orchestrator("up").ok()
        yield world
    finally:
        world.orchestrator("down", "--volumes")
        world.remove()


def once(shop: World, request: bytes, address: tuple[str, int] = EDGE, where: str = "") -> Answer:
    """An answer, on a connection of its own."""
    with connect(shop, where, address) as connection:
        answer = ask(connection, request)
    assert answer is not None, "hung up without an answer"
    return answer


@contextmanager
def half_sent(shop: World, count: int, address: tuple[str, int], where: str) -> Iterator[None]:
    """So many requests under way, each waiting for the rest of its body."""
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(connect(shop, where, address))
            connection.sendall(HALF_A_BODY)
        yield


@pytest.mark.parametrize("target", [EDGE, GATEWAY], ids=["edge", "gateway"])
@pytest.mark.parametrize("name", TRICKS)
def test_trick_gets_one_answer_and_hides_nothing(
    shop: World, name: str, target: tuple[str, int]
) -> None:
    raw, *allowed = TRICKS[name]
    with connect(shop, "", target) as connection:
        answer = ask(connection, raw)
        after = None if answer is None or answer.closed else ask(connection, HEALTH)
    assert answer is not None
    assert answer.status in allowed[target == GATEWAY], answer
    if answer.status >= 400:
        assert answer.problem()["status"] == answer.status
    # What comes next on the connection is the answer to what was asked next, or nothing.
    healthy = b"OK" if target == EDGE else b'"healthy"'
    assert after is None or healthy in after.body or after.status == 400


def cut_off(shop: World, where: tuple[str, int], begin: bytes, drip: bytes) -> str:
    """How a connection ends whose client sends next to nothing, for ever."""
    with connect(shop, "", where) as connection:
        connection.sendall(begin)
        connection.settimeout(0.5)  # the pace of the drip
        got = b""
        for _ in range(120):
            try:
                if drip:
                    connection.sendall(drip)
                part = connection.recv(65536)
                got += part
                if not part:
                    return f"closed {got[9:12].decode()}".strip()
            except TimeoutError:
                continue
            except ConnectionError:
                return f"closed {got[9:12].decode()}".strip()
    return "hangs"


SLOW = {
    "edge, head": (EDGE, HEAD + b"X-A: ", b"a"),
    "edge, nothing": (EDGE, b"", b""),
    "edge, body": (EDGE, HALF_A_BODY, b""),
    "gateway, head": (GATEWAY, HEAD + b"X-A: ", b"a"),
    "gateway, nothing": (GATEWAY, b"", b""),
    "gateway, body": (GATEWAY, HALF_A_BODY, b"a"),
}


def test_slow_clients_are_cut_off_and_nobody_waits_for_them(shop: World) -> None:
    ends: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda n=name: ends.update({n: cut_off(shop, *SLOW[n])}))
        for name in SLOW
    ]
    with ExitStack() as stack:
        for _ in range(500):
            slow = stack.enter_context(connect(shop, "", EDGE))
            slow.sendall(HEAD)
        for thread in threads:
            thread.start()
        for address in (EDGE, GATEWAY):
            assert once(shop, HEALTH, address).status == 200
            assert once(shop, GOOD, address).status == 200
        for thread in threads:
            thread.join()
    assert {name: end.split()[0] for name, end in ends.items()} == dict.fromkeys(SLOW, "closed")
    assert ends["gateway, body"] == "closed 408"


def test_gateway_sheds_what_is_too_much_and_stays_healthy(shop: World) -> None:
    with half_sent(shop, IN_FLIGHT, GATEWAY, ""):
        shed = once(shop, GOOD, GATEWAY)
        through = once(shop, GOOD)
        for address in (GATEWAY, EDGE):
            assert once(shop, HEALTH, address).status == 200
    for answer in (shed, through):
        assert answer.problem()["status"] == 503
        assert int(answer.headers["retry-after"]) > 0


def test_bodies_that_never_end_take_no_place_from_those_who_read(shop: World) -> None:
    with half_sent(shop, BODIES, EDGE, ""):
        shed = once(shop, POST + b"Content-Length: 2\r\n\r\n{}")
        read = once(shop, GOOD)
    assert shed.problem()["status"] == 503
    assert int(shed.headers["retry-after"]) > 0
    assert read.status == 200
    eventually(lambda: once(shop, POST + b"Content-Length: 2\r\n\r\n{}").status == 201)


def test_client_gets_so_many_places_and_others_have_theirs(shop: World) -> None:
    with half_sent(shop, CLIENT_CONNECTIONS, FROM_OUTSIDE, "outside"):
        shed = once(shop, GOOD, FROM_OUTSIDE, "outside")
        assert shed.problem()["status"] == 503
        assert int(shed.headers["retry-after"]) > 0
        assert once(shop, HEALTH, FROM_OUTSIDE, "outside").status == 200
        with connect(shop, "outside", FROM_OUTSIDE, ANOTHER_ADDRESS) as other:
            served = ask(other, GOOD)
        assert served is not None
        assert served.status == 200
        assert once(shop, GOOD).status == 200


def test_client_gets_so_many_requests_a_second_and_others_have_theirs(shop: World) -> None:
    """The first burst passes, then no more than the rate; a pipeline is as fast as can be."""
    answers = []

    def write() -> None:
        with suppress(ConnectionError):
            greedy.sendall(GOOD * 2 * BURST)

    with connect(shop, "outside", FROM_OUTSIDE, ANOTHER_ADDRESS) as greedy:
        writer = threading.Thread(target=write)
        writer.start()
        stream = greedy.makefile("rb")
        while line := stream.readline():
            if status := re.search(rb"HTTP/1.1 (\d+)", line):  # a body has no last line end
                answers.append(int(status[1]))
            if line.startswith(b"Retry-After"):
                break
        assert once(shop, GOOD, FROM_OUTSIDE, "outside").status == 200
        assert once(shop, GOOD).status == 200
        greedy.shutdown(socket.SHUT_RDWR)
        writer.join()
    assert answers[-1] == 429
    assert answers.count(200) >= BURST


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (EDGE, "/health"), (EDGE, "/api/products/1"), (EDGE, "/none"), (EDGE, "/%00"),
        (GATEWAY, "/health"), (GATEWAY, "/none"), (GATEWAY, "/ HTTP/1.1\r\nX : y"),
        (("10.0.0.20", 9100), "/metrics"),
        (("10.0.0.30", 5000), "/health"), (("10.0.0.30", 5000), "/none"),
        (("10.0.0.30", 9100), "/metrics"), (("10.0.0.30", 5000), "/ HTTP/1.1\r\nX : y"),
        (("10.0.0.40", 5000), "/health"), (("10.0.0.40", 9100), "/metrics"),
    ],
)  # fmt: skip
def test_answer_names_no_version(shop: World, address: tuple[str, int], path: str) -> None:
    # Each from where the platform itself asks it.
    where = {9100: "prometheus", 3000: "nginx-lb", 5000: "api-gateway"}.get(address[1], "")
    with connect(shop, where, address) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = receive(connection)
    assert answer is not None
    told = " ".join(answer.headers.get(key, "") for key in ("server", "x-powered-by", "via"))
    assert not re.search(r"\d|python|aiohttp", told, re.IGNORECASE)


@pytest.mark.parametrize(
    "request_line", ["GET /health", "GET /api/products", "GET /none", "GET /%00", "FROB /"]
)
def test_every_answer_of_the_edge_has_the_headers_of_safety(shop: World, request_line: str) -> None:
    found = once(shop, f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).headers
    assert found["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in found["content-security-policy"]
    assert found["cache-control"] == "no-store"
    assert found["referrer-policy"] == "no-referrer"
    assert found["cross-origin-resource-policy"] == "same-origin"


def written(shop: World) -> dict[Path, bytes]:
    """Everything that a lab writes, data and secrets aside."""
    lab = f"shop@{shop.host}"
    files = [*(shop.state / lab / "logs").iterdir(), shop.state / lab / "journal.jsonl"]
    files += (shop.run_dir / lab / "path").glob("*/*")
    return {path: path.read_bytes() for path in files}


NASTY = "%0aFORGED%20line%0d%0a%09tab%1b[31mred%c2%9b%e2%80%a8FORGED%22%5c"
RAW = b"\x1b[2J\x9b\xe2\x80\xa8FORGED\t\x07"


def test_input_forges_no_line_and_steers_no_terminal(shop: World) -> None:
    mark = next_name()
    for address in (EDGE, GATEWAY):
        for head in (
            f"GET /{mark}{NASTY} HTTP/1.1\r\nHost: x\r\n".encode(),
            f"GET /api/orders?customer_id={mark}{NASTY} HTTP/1.1\r\nHost: x\r\n".encode(),
            HEAD + b"User-Agent: " + RAW + b"\r\nReferer: " + RAW + b"\r\n",
            HEAD + b"X-Session-Id: " + RAW + b"\r\n",
            POST.replace(b"sessions", b"orders") + b"Idempotency-Key: " + RAW + b"\r\n"
            b"Content-Length: 2\r\n",
        ):  # fmt: skip
            body = b"{}" if b"Content-Length" in head else b""
            assert once(shop, head + b"Connection: close\r\n\r\n" + body, address).status < 500
    once(shop, f"GET /{mark}-last HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def logged() -> str:
        return shop.orchestrator("logs", "--tail", "100000").ok().out

    eventually(lambda: f"{mark}-last" in logged())  # nginx writes in batches
    said = logged()
    for path, data in written(shop).items():
        for line in data.split(b"\n"):
            assert not re.match(rb"\W*FORGED", line), path
            fields = line.count(b"\t") if path.suffix == ".tsv" else 0
            assert fields in (0, 3, 9), (path, line)  # nothing, counted, accounted for
            text = line.decode(errors="surrogateescape").replace("\t", "")
            assert text.isprintable(), (path, line)
    for line in said.split("\n"):
        assert re.match(r"[a-z-]+ +\| |$", line), line
        assert line.replace("\t", "").isprintable(), line


def test_nothing_sensitive_is_written(shop: World) -> None:
    password = f"hunter2-{next_name()}"
    basic = base64.b64encode(f"jane:{password}".encode())
    made = once(shop, POST + b"Content-Length: 2\r\n\r\n{}")
    session = json.loads(made.body)["session_id"].encode()
    credentials = (
        b"Authorization: Basic " + basic + b"\r\nCookie: session=" + session + b"\r\n"
        b"X-Session-Id: " + session + b"\r\n"
    )  # fmt: skip
    for address in (EDGE, GATEWAY):
        for head in (
            b"GET /api/cart HTTP/1.1\r\nHost: x\r\n",
            b"GET /none HTTP/1.1\r\nHost: x\r\n",
            b"GET /api/cart?password=" + password.encode() + b" HTTP/1.1\r\nHost: x\r\n",
            b"GET /api/cart HTTP/1.1\r\nHost: x\r\nBad : header\r\n",
            b"PUT /api/cart HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n",
        ):
            once(shop, head + credentials + b"Connection: close\r\n\r\n", address)
    secrets = [path.read_bytes().strip() for path in shop.state.glob("shop@*/secrets/*")]
    assert len(secrets) >= 5
    for path, data in written(shop).items():
        for word in (*secrets, session, password.encode(), basic):
            assert word not in data, path


ENCODED = {
    "no gzip": (b"gzip", b"abc"),
    "gzip": (b"gzip", gzip.compress(b"{}")),
    "half of it": (b"gzip", gzip.compress(b"{}" * 500)[:20]),
    "unknown": (b"nosuch", b"{}"),
    "two": (b"identity, br", b"{}"),
}


@pytest.mark.parametrize("target", [EDGE, GATEWAY], ids=["edge", "gateway"])
@pytest.mark.parametrize("name", ENCODED)
def test_encoded_body_is_refused_unread(shop: World, name: str, target: tuple[str, int]) -> None:
    coding, body = ENCODED[name]
    end = b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (coding, len(body), body)
    for head in (POST, POST.replace(b"sessions", b"orders")):
        answer = once(shop, head + end, target)
        assert answer.problem()["status"] == 415
        assert answer.headers["accept-encoding"] == "identity"
    # Nor does it do harm where nobody asks for it.
    assert (
        once(shop, POST.replace(b"POST /api/sessions", b"PUT /api/cart") + end, target).status
        == 401
    )
    assert (
        once(shop, POST.replace(b"POST /api/sessions", b"GET /health") + end, target).status == 200
    )
    plain = b"Content-Encoding: Identity\r\nContent-Length: 2\r\n\r\n{}"
    assert once(shop, POST + plain, target).status == 201
    assert_no_bug_is_logged(shop)


def assert_no_bug_is_logged(shop: World) -> None:
    logs = written(shop)
    gateway = next(data for path, data in logs.items() if path.name == "api-gateway.log")
    assert b"Traceback" not in gateway
    assert b"unhandled" not in gateway.lower()


def test_client_that_leaves_is_no_error_of_ours(shop: World) -> None:
    for address in (EDGE, GATEWAY):
        connect(shop, "", address).close()
        with connect(shop, "", address) as connection:
            connection.sendall(HALF_A_BODY)
    once(shop, GOOD, GATEWAY)
    assert_no_bug_is_logged(shop)
