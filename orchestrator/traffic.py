"""Packets as proof: pings and connections from a namespace, and an outside to send them to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from msgspec import Struct, field

from orchestrator import linux
from orchestrator.errors import HostError, ResourceError
from orchestrator.kernel import sysctl
from orchestrator.kernel.namespace import LOOPBACK, SETTINGS
from orchestrator.kernel.netlink import Netlink, Snapshot
from orchestrator.kernel.rtnetlink import add_address, new_veth, remove_link, set_link
from orchestrator.lab import Lab
from orchestrator.processes.exchange import LIMIT_BYTES
from orchestrator.processes.probes import Answer
from orchestrator.spec import HttpProbe

ECHO_REPLY, ECHO_REQUEST = 0, 8  # RFC 792
ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
PING_S, PINGS = 1.0, 2  # a lost packet is asked for again: two cores drop some under load
CONNECT_S = 5.0
COMMAND_S = 5.0

# RFC 5737, TEST-NET-3: addresses for documentation, nobody's on any network.
OUTSIDE_NET = IPv4Network("203.0.113.0/24")
HOST_SIDE, OUTSIDE = IPv4Interface("203.0.113.1/24"), IPv4Interface("203.0.113.2/24")
OUTSIDE_PORT = 65000  # none that a stack would name
HOST_LINK, OUTSIDE_LINK = "veth-outside", "veth-outside-in"
CARRIER_DEADLINE_S = 5.0


def open_socket(namespace: Path | None, kind: int, protocol: int = 0) -> socket.socket:
    """An IPv4 socket that belongs to the namespace, for the event loop. Raises OSError."""
    with linux.inside(namespace):
        return socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK, protocol)


def echo_request(identifier: int, number: int) -> bytes:
    """An ICMP echo request with its checksum: RFC 792, RFC 1071."""
    words = struct.unpack("!4H", ECHO.pack(ECHO_REQUEST, 0, 0, identifier, number))
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return ECHO.pack(ECHO_REQUEST, 0, ~(total + (total >> 16)) & 0xFFFF, identifier, number)


def echo_reply(packet: bytes) -> tuple[int, int] | None:
    """Identifier and number of an echo reply as a raw socket gives it: raw(7), with IP header."""
    start = (packet[0] & 0xF) * 4 if packet else 0
    if len(packet) < start + ECHO.size:
        return None
    kind, _, _, identifier, number = ECHO.unpack_from(packet, start)
    return (identifier, number) if kind == ECHO_REPLY else None


class Pinger(Struct, frozen=True):
    """Echo requests from one namespace, many at once over one raw socket."""

    channel: socket.socket
    identifier: int
    waiting: dict[tuple[int, str], asyncio.Future[None]] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def inside(cls, namespace: Path | None) -> Iterator[Pinger]:
        """Raises OSError where there is no such namespace."""
        loop = asyncio.get_running_loop()
        with open_socket(namespace, socket.SOCK_RAW, socket.IPPROTO_ICMP) as channel:
            pinger = cls(channel, int.from_bytes(os.urandom(2)))
            loop.add_reader(channel, pinger.receive)
            try:
                yield pinger
            finally:
                loop.remove_reader(channel)

    def receive(self) -> None:
        """Wakes whoever waits for the reply that came in."""
        with contextlib.suppress(BlockingIOError):
            packet, (address, _) = self.channel.recvfrom(2048)
            reply = echo_reply(packet)
            if reply and reply[0] == self.identifier:
                waiting = self.waiting.get((reply[1], address))
                if waiting and not waiting.done():
                    waiting.set_result(None)

    async def ping(self, address: IPv4Address) -> Answer:
        """The round trip's time, or why there was none."""
        number = len(self.waiting) & 0xFFFF
        key = (number, str(address))
        self.waiting[key] = asyncio.get_running_loop().create_future()
        for _ in range(PINGS):
            begun = time.perf_counter()
            try:
                self.channel.sendto(echo_request(self.identifier, number), (str(address), 0))
                async with asyncio.timeout(PING_S):
                    await asyncio.shield(self.waiting[key])
            except TimeoutError:
                continue
            except OSError as error:
                return Answer(False, error.strerror or str(error))
            return Answer(True, f"{(time.perf_counter() - begun) * 1000:.2f} ms")
        return Answer(False, f"no answer within {PING_S * PINGS:g} s")


async def knock(
    namespace: Path | None, address: IPv4Address, port: int, http: HttpProbe | None = None
) -> Answer:
    """Connects from there; with `http` also asks for its page and looks at the answer."""
    loop = asyncio.get_running_loop()
    try:
        with open_socket(namespace, socket.SOCK_STREAM) as channel:
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(channel, (str(address), port))
                if http is None:
                    return Answer(True, "connected")
                # HTTP/1.0: the answer ends with the connection and is never in chunks.
                ask = f"GET {http.path} HTTP/1.0\r\nHost: {address}:{port}\r\n\r\n"
                await loop.sock_sendall(channel, ask.encode())
                return judge(await _read(channel), http)
    except TimeoutError:
        return Answer(False, f"no answer within {CONNECT_S:g} s")
    except OSError as error:
        return Answer(False, error.strerror or str(error))


def judge(text: str, http: HttpProbe) -> Answer:
    """Whether a raw HTTP answer has the wanted status and text."""
    first, _, rest = text.partition("\r\n")
    _, _, status = first.partition(" ")
    seen = f"GET {http.path} → {status or 'nothing'}"
    if not status.startswith(f"{http.status} ") and status != str(http.status):
        return Answer(False, f"{seen}, wanted {http.status}")
    if http.contains not in rest:
        return Answer(False, f"{seen}, without {http.contains!r}")
    return Answer(True, seen)


async def _read(channel: socket.socket) -> str:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < LIMIT_BYTES:
        more = await loop.sock_recv(channel, 65536)
        if not more:
            break
        data += more
    return data.decode(errors="replace")


async def output_of(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether the command succeeded, and what it wrote."""
    try:
        done = await linux.in_thread(
            subprocess.run, words, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, [f"error: {error}"]
    return done.returncode == 0, (done.stdout + done.stderr).splitlines()


def knock_command(address: IPv4Address, port: int, http: HttpProbe | None) -> str:
    """The shell command that does the same as `knock`."""
    if http is None:
        return f"bash -c '</dev/tcp/{address}/{port}'"
    return f"curl -i http://{'localhost' if address.is_loopback else address}:{port}{http.path}"


class Outside(Struct, frozen=True):
    """A neighbour of the lab's host that is none of its own; `path` is its namespace. On its
    port it tells whoever connects which address it came from."""

    path: Path

    async def echo(self, namespace: Path) -> Answer:
        """Whether the outside answers a ping from there."""
        try:
            with Pinger.inside(namespace) as pinger:
                return await pinger.ping(OUTSIDE.ip)
        except OSError as error:
            return Answer(False, error.strerror or str(error))

    async def seen_from(self, namespace: Path) -> Answer:
        """The address that the outside sees when somebody connects from there: the host's?"""
        loop = asyncio.get_running_loop()
        try:
            with open_socket(namespace, socket.SOCK_STREAM) as channel:
                async with asyncio.timeout(CONNECT_S):
                    await loop.sock_connect(channel, (str(OUTSIDE.ip), OUTSIDE_PORT))
                    source = (await _read(channel)).strip()
        except TimeoutError:
            return Answer(False, f"no answer within {CONNECT_S:g} s")
        except OSError as error:
            return Answer(False, error.strerror or str(error))
        return Answer(source == str(HOST_SIDE.ip), f"seen outside as {source or 'nobody'}")


def check_room(host: Snapshot) -> None:
    """Raises HostError if the outside's addresses or its link's name are in use."""
    names = {link.index: link.name for link in host.links.values()}
    for route in host.routes:
        if route.destination.prefixlen and route.destination.overlaps(OUTSIDE_NET):
            what = f"{route.destination} dev {names.get(route.oif, '?')}"
            raise HostError(
                f"{OUTSIDE_NET} is already routed here ({what}), so no outside can be built",
                mend="run verify without --outside, or take that route away",
            )
    if link := host.links.get(HOST_LINK):
        owner = link.alias or "somebody else"
        raise HostError(
            f"link {HOST_LINK} exists and belongs to {owner}",
            mend="run verify without --outside, or rename that link",
        )


@contextlib.asynccontextmanager
async def outside(lab: Lab, netlink: Netlink) -> AsyncIterator[Outside]:
    """The outside for the length of the block. Raises HostError, ResourceError.

    Its namespace has no name: only a descriptor of this process holds it, so that the kernel
    takes it and the link away even if this process is killed.
    """
    check_room(netlink.snapshot())
    with contextlib.ExitStack() as undo:
        namespace = await linux.in_thread(_new_namespace, lab, netlink)
        undo.callback(os.close, namespace)
        path = Path(f"/proc/{os.getpid()}/fd/{namespace}")
        undo.callback(_disconnect, lab, netlink)
        _connect(lab, netlink, namespace, path)
        await _carrier(netlink)
        listener = undo.enter_context(open_socket(path, socket.SOCK_STREAM))
        listener.bind((str(OUTSIDE.ip), OUTSIDE_PORT))
        server = await asyncio.start_server(_tell_source, sock=listener)
        undo.callback(server.close)
        yield Outside(path)


async def _tell_source(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.write(f"{writer.get_extra_info('peername')[0]}\n".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def _new_namespace(lab: Lab, netlink: Netlink) -> int:
    """For a thread of its own: a marked namespace that only the descriptor holds."""
    here = linux.own_namespace()
    try:
        linux.unshare_net()
        try:
            for key, value in SETTINGS.items():
                if sysctl.read(key) is not None:
                    sysctl.write(key, value)
            up = set_link(LOOPBACK, up=True, group=lab.group, alias=lab.mark)
            netlink.apply_here("outside", "ensure", [up])
            return linux.own_namespace()
        finally:
            linux.setns(here)
    except OSError as error:
        raise ResourceError("outside", "ensure", str(error)) from error
    finally:
        os.close(here)


def _connect(lab: Lab, netlink: Netlink, namespace: int, path: Path) -> None:
    """A marked veth from the lab's host into the namespace, both ends with addresses and up."""
    pair = new_veth(
        HOST_LINK,
        mac=lab.mac(HOST_LINK),
        master=0,  # a port of no bridge: like an interface of the host's own
        group=lab.group,
        peer=OUTSIDE_LINK,
        peer_mac=lab.mac(OUTSIDE_LINK),
        peer_namespace=namespace,
    )
    netlink.apply_here("outside", "ensure", [pair])
    key = f"net.ipv6.conf.{HOST_LINK}.disable_ipv6"
    if sysctl.read(key) == "0":
        sysctl.write(key, "1")
    for name, address, where in (
        (HOST_LINK, HOST_SIDE, None),
        (OUTSIDE_LINK, OUTSIDE, path),
    ):
        index = netlink.snapshot(where).links[name].index
        up = set_link(index, alias=lab.mark, up=True)
        netlink.apply_here("outside", "ensure", [add_address(index, address), up], where)


async def _carrier(netlink: Netlink) -> None:
    """Carrier comes a moment after both ends are up; before that packets are dropped."""
    until = time.monotonic() + CARRIER_DEADLINE_S
    while True:
        if netlink.snapshot().links[HOST_LINK].running:
            return
        if time.monotonic() > until:
            reason = f"{HOST_LINK} had no carrier within {CARRIER_DEADLINE_S:g} s"
            raise ResourceError("outside", "ensure", reason)
        await asyncio.sleep(0.001)


def _disconnect(lab: Lab, netlink: Netlink) -> None:
    """Both ends go at once; closing the namespace alone would take a while."""
    link = netlink.snapshot().links.get(HOST_LINK)
    if link is not None and link.group == lab.group:
        netlink.apply_here("outside", "remove", [remove_link(link.index)])
