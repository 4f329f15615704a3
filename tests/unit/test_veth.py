"""A pair that goes while it is looked at."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from orchestrator.kernel.netlink import Netlink
from orchestrator.kernel.rtnetlink import Link
from orchestrator.kernel.veth import Veth
from orchestrator.resource import State

BRIDGE = Link(1, "br-app", "bridge", "", 7, "", True, True, 0, 3, False, 0)
OUTER = Link(2, "veth-a-br", "veth", "", 7, "", True, True, 1, 3, False, 0)


class Going(Netlink):
    """Of a host whose veth is taken away after the first look at it."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def links(self, *names: str, namespace: Path | None = None) -> dict[str, Link]:  # noqa: ARG002
        there = [BRIDGE] if self.looks else [BRIDGE, OUTER]
        self.looks += OUTER.name in names
        return {link.name: link for link in there if link.name in names}


def pair(netlink: Netlink, namespace: Path) -> Veth:
    return Veth(
        "veth:a",
        bridge=BRIDGE.name,
        outer=OUTER.name,
        inner="veth-a",
        namespace=namespace,
        address=IPv4Interface("10.0.0.2/16"),
        gateway=IPv4Address("10.0.0.1"),
        mac="02:00:00:00:00:aa",
        outer_mac="02:00:00:00:00:bb",
        hairpin=False,
        mark="orchestrator:t",
        group=7,
        netlink=netlink,
    )


async def test_outer_end_that_goes_between_two_looks_is_absent(tmp_path: Path) -> None:
    netlink = Going()
    seen = await pair(netlink, tmp_path / "none").observe()
    assert netlink.looks == 2
    assert seen.state is State.ABSENT
