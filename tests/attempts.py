"""Real connection attempts from any namespace, all at once."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig import HOST_ADDRESS, World

from orchestrator.linux import inside

PATIENCE_S = 5.0  # for what is dropped; refusals and connections take no time
CONNECTED, REFUSED, SILENT, UNREACHABLE = "connected", "refused", "silent", "unreachable"


@dataclass(frozen=True, slots=True)
class Attempt:
    """From a namespace in /run/netns to an address; `source` is an address to send from."""

    namespace: str
    address: str
    port: int
    protocol: str = "tcp"
    source: str = ""

    async def make(self) -> str:
        """How it ended. UDP counts as connected when there is an answer."""
        kind = socket.SOCK_STREAM if self.protocol == "tcp" else socket.SOCK_DGRAM
        loop = asyncio.get_running_loop()
        with inside(Path("/run/netns", self.namespace)):
            channel = socket.socket(socket.AF_INET, kind)
        with channel:
            channel.setblocking(False)
            if self.source:
                channel.bind((self.source, 0))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await loop.sock_connect(channel, (self.address, self.port))
                    if self.protocol == "udp":
                        await loop.sock_sendall(channel, b"?")
                        await loop.sock_recv(channel, 16)
            except TimeoutError:
                return SILENT
            except OSError as error:
                if error.errno == errno.ETIMEDOUT:
                    return SILENT
                refused = error.errno in (errno.ECONNREFUSED, errno.ECONNRESET)
                return REFUSED if refused else UNREACHABLE
        return CONNECTED


def attempt_all(attempts: Iterable[Attempt]) -> dict[Attempt, str]:
    """Each with how it ended."""
    given = list(dict.fromkeys(attempts))

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(each.make() for each in given))

    return dict(zip(given, asyncio.run(all_of_them()), strict=True))


def listening(namespace: str) -> set[int]:
    """TCP ports that somebody there listens on, by whatever address: proc_pid_net(5)."""
    with inside(Path("/run/netns", namespace)):
        texts = [Path("/proc/thread-self/net", name).read_text() for name in ("tcp", "tcp6")]
    fields = [line.split() for text in texts for line in text.splitlines()[1:]]
    return {int(each[1].rpartition(":")[2], 16) for each in fields if each[3] == "0A"}


# A program that listens on the TCP and UDP ports it is given, and answers each.
LISTENER = """
import selectors, socket, sys
waiting = selectors.DefaultSelector()
for word in sys.argv[1:]:
    address, port, protocol = word.split("/")
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    each = socket.socket(socket.AF_INET, kind)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    each.bind((address, int(port)))
    if protocol == "tcp":
        each.listen(512)
    waiting.register(each, selectors.EVENT_READ)
print("listening", flush=True)
while True:
    for key, _ in waiting.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            key.fileobj.accept()[0].close()
        else:
            key.fileobj.sendto(b"!", key.fileobj.recvfrom(16)[1])
"""


@contextmanager
def listeners(namespace: str, *ports: str) -> Iterator[None]:
    """Somebody's servers: `address/port/protocol`."""
    words = ["ip", "netns", "exec", namespace, sys.executable, "-c", LISTENER, *ports]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield
    finally:
        process.kill()
        process.communicate()


# Of the shop.
PLACES = {
    "nginx-lb": "10.0.0.10",
    "api-gateway": "10.0.0.20",
    "product-service": "10.0.0.30",
    "order-service": "10.0.0.40",
    "redis-cache": "10.0.0.50",
    "postgres-db": "10.0.0.60",
    "prometheus": "10.0.0.70",
}
METRICS = 9464  # of the supervisor, on the host


@contextmanager
def way_from_outside(world: World, subnet: str) -> Iterator[None]:
    """The outside knows the way to services, on a host whose FORWARD lets everything pass."""
    world.outside_("ip", "route", "add", subnet, "via", HOST_ADDRESS).ok()
    world.on_host("iptables", "-P", "FORWARD", "ACCEPT").ok()
    try:
        yield
    finally:
        world.on_host("iptables", "-P", "FORWARD", "DROP").ok()
        world.outside_("ip", "route", "del", subnet).ok()
