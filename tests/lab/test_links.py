"""Links taken away in one batch: exactly those, whatever else is in their group."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from rig import World, run

from orchestrator.kernel import sysctl
from orchestrator.kernel.linkremoval import take_away
from orchestrator.kernel.netlink import Netlink
from orchestrator.kernel.rtnetlink import Link
from orchestrator.kernel.veth import Veth
from orchestrator.linux import NETNS_DIR, inside

GROUP = 4711
KIND = 0x88B5  # Ethernet type for experiments of one's own: IEEE 802


@pytest.fixture
def host(world: World) -> Iterator[World]:
    """The test is on the world's host, which has a bridge and four pairs of one group."""
    world.on_host("ip", "link", "add", "br-x", "group", str(GROUP), "type", "bridge").ok()
    for name in ("x1", "x2", "x3", "x4"):
        pair = ("type", "veth", "peer", "name", f"{name}-in", "netns", world.outside)
        world.on_host("ip", "link", "add", name, "group", str(GROUP), *pair).ok()
        world.on_host("ip", "link", "set", name, "master", "br-x").ok()
    with inside(NETNS_DIR / world.host):
        yield world


def links() -> dict[str, Link]:
    return Netlink().snapshot().links


def test_exactly_those_go_and_others_of_their_group_stay(host: World) -> None:
    before = links()
    assert take_away([before["x1"], before["x2"], before["br-x"]]) == [0, 0, 0]
    assert before.keys() - links().keys() == {"x1", "x2", "br-x"}
    stay = links()
    assert {stay[name].group for name in ("x3", "x4")} == {GROUP}
    inner = host.outside_("ip", "-o", "link").ok().out
    assert "x1-in" not in inner
    assert "x3-in" in inner


def test_one_that_is_gone_already_is_gone(host: World) -> None:
    before = links()
    host.on_host("ip", "link", "delete", "x1").ok()
    assert take_away([before["x1"], before["x2"]]) == [0, 0]
    assert take_away([before["x1"]]) == [0]
    assert "x2" not in links()


def test_one_that_cannot_go_stays_in_its_group(host: World) -> None:
    """The loopback of a namespace cannot be deleted: the kernel refuses the whole group."""
    host.on_host("ip", "link", "set", "lo", "group", str(GROUP)).ok()
    before = links()
    assert all(take_away([before["lo"], before["x1"]]))
    assert {links()[name].group for name in ("lo", "x1")} == {GROUP}


def test_ipv6_is_off_for_that_link_alone_also_of_another_host(host: World) -> None:
    def setting(name: str, link: str) -> str:
        key = f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6"
        return run("ip", "netns", "exec", name, "cat", key).ok().out.strip()

    sysctl.no_ipv6("x1")
    assert [setting(host.host, link) for link in ("x1", "x2")] == ["1", "0"]
    sysctl.no_ipv6("nowhere")  # somebody was faster
    with inside(NETNS_DIR / host.outside):
        sysctl.no_ipv6("x2-in")
    assert [setting(host.outside, link) for link in ("x2-in", "x1-in")] == ["1", "0"]


def test_what_is_sent_the_moment_a_pair_is_ready_arrives(host: World) -> None:
    """From inside: the inner end's queue drops everything until it has its carrier."""
    outside = NETNS_DIR / host.outside
    host.on_host("ip", "link", "set", "br-x", "up").ok()
    # A packet socket, since a datagram to all would need a route back to its sender: packet(7).
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(KIND)) as heard:
        heard.bind(("br-x", KIND))
        heard.settimeout(2)
        for number in range(30):
            pair = veth(f"y{number}", outside, f"10.9.0.{number + 2}/24")
            asyncio.run(pair.ensure())
            with inside(outside), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as speaker:
                speaker.sendto(bytes([number]) * 46, (pair.inner, KIND, 0, 0, b"\xff" * 6))
            assert heard.recv(100)[0] == number
            asyncio.run(pair.remove())


def veth(name: str, namespace: Path, address: str) -> Veth:
    return Veth(
        f"veth:{name}",
        bridge="br-x",
        outer=f"{name}-br",
        inner=name,
        namespace=namespace,
        address=IPv4Interface(address),
        gateway=None,
        mac="02:00:00:00:00:01",
        outer_mac="02:00:00:00:00:02",
        hairpin=False,
        mark="orchestrator:test",
        group=GROUP,
        netlink=Netlink(),
    )
