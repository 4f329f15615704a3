"""Packets are large between services, and on the way out those of an Ethernet."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from attempts import listeners
from rig import HOST_ADDRESS, OUTSIDE_ADDRESS, World, eventually

from orchestrator.kernel.bridge import MTU
from orchestrator.linux import NETNS_DIR, inside

HEADERS, OPTIONS = 40, 12  # bytes of IPv4 and TCP, and of TCP's timestamps (RFC 7323)
ETHERNET, JUMBO = 1500, 9000


def segment(namespace: str, address: str, port: int) -> int:
    """What a connection may send at once, in bytes: the MSS that the other end has announced or
    that this end's route allows, whichever is less."""
    with inside(Path(NETNS_DIR, namespace)):
        channel = socket.socket()
    with channel:
        channel.settimeout(5)
        channel.connect((address, port))
        return channel.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


@pytest.fixture
def jumbo(watched: World) -> Iterator[None]:
    """The outside could send more than an Ethernet's frame, as far as its link goes."""

    def size(bytes_: int) -> None:
        watched.on_host("ip", "link", "set", "wan0", "mtu", str(bytes_)).ok()
        watched.outside_("ip", "link", "set", "eth0", "mtu", str(bytes_)).ok()

    size(JUMBO)
    try:
        yield
    finally:
        size(ETHERNET)


@pytest.mark.usefixtures("jumbo")
def test_packets_are_large_inside_alone(watched: World) -> None:
    usual = ETHERNET - HEADERS - OPTIONS
    gateway = f"{watched.host}.api-gateway"
    assert segment(gateway, "10.0.0.50", 6379) > JUMBO
    assert segment(watched.host, "10.0.0.10", 80) > JUMBO
    assert segment(watched.host, "127.0.0.1", 8080) > JUMBO
    # Either way: what a service sends, and what it says that may be sent to it.
    with listeners(watched.outside, "0.0.0.0/443/tcp"):
        assert segment(gateway, OUTSIDE_ADDRESS, 443) == usual
    assert segment(watched.outside, HOST_ADDRESS, 8080) == usual


@pytest.mark.parametrize(
    ("address", "size", "may_be_cut", "arrives"),
    [
        ("10.0.0.50", 60_000, False, True),
        (OUTSIDE_ADDRESS, 60_000, True, True),
        (OUTSIDE_ADDRESS, 2_000, False, False),
    ],
)
def test_what_is_larger_than_a_packet_is_cut_on_the_way_out(
    watched: World, address: str, size: int, *, may_be_cut: bool, arrives: bool
) -> None:
    cut = "dont" if may_be_cut else "do"  # ping(8): IP_PMTUDISC_
    words = ("ping", "-c", "1", "-W", "5", "-M", cut, "-s", str(size), address)
    assert (watched.inside("api-gateway", *words).code == 0) is arrives


@pytest.mark.parametrize(
    ("link", "namespace"), [("veth-redis", ".redis-cache"), ("veth-redis-br", ""), ("br-app", "")]
)
def test_another_mtu_is_put_back(watched: World, link: str, namespace: str) -> None:
    where = f"{watched.host}{namespace}"

    def mtu() -> int:
        (found,) = json.loads(watched.direct("ip", "-n", where, "-j", "link", "show", link).out)
        return int(found["mtu"])

    watched.direct("ip", "-n", where, "link", "set", link, "mtu", "1400").ok()
    eventually(lambda: mtu() == MTU)
