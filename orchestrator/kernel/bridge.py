"""Resource: a bridge with its address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface

from msgspec import Struct

from orchestrator.errors import ForeignError, TransientError
from orchestrator.events import Outcome
from orchestrator.kernel import sysctl
from orchestrator.kernel.netlink import Like, Netlink
from orchestrator.kernel.rtnetlink import (
    Link,
    add_address,
    new_bridge,
    set_link,
    set_link_route,
)
from orchestrator.resource import Observation, State

# Bytes, of the bridge and its ports. Between services lies nothing but memory: what is larger than
# a frame of Ethernet's would have to be cut up and acknowledged for nothing. With its header it
# still fits into what is sent at once (gso_max_size, 65536).
MTU = 65520


class Bridge(Struct, frozen=True):
    """A bridge that forwards at once (no STP, no forward delay), with a fixed MAC."""

    interface: str
    address: IPv4Interface
    mac: str
    mark: str
    group: int
    netlink: Netlink

    @property
    def name(self) -> str:
        return f"bridge:{self.interface}"

    @property
    def _settings(self) -> dict[str, str]:
        """Settings of the bridge, gone with it: ip-sysctl.rst.

        route_localnet lets a connection from 127.0.0.1 leave towards the published service
        (a rule in raw keeps others from using it: CVE-2020-8558).
        """
        return {
            f"net.ipv4.conf.{self.interface}.route_localnet": "1",
            f"net.ipv6.conf.{self.interface}.disable_ipv6": "1",
        }

    async def observe(self) -> Observation:
        bridge = self.netlink.links(self.interface).get(self.interface)
        return self._judge(bridge, self._renamed())

    def _renamed(self) -> list[Link]:
        """Ours under another name."""
        return self.netlink.renamed(Like(self.interface, "bridge", self.mac, self.group))

    def _judge(self, bridge: Link | None, renamed: list[Link]) -> Observation:
        if bridge is None and not renamed:
            return Observation(State.ABSENT)
        if bridge is not None and bridge.group != self.group:
            owner = bridge.alias or "somebody else"
            return Observation(State.FOREIGN, f"link {self.interface} belongs to {owner}")
        if bridge is None or renamed:
            return Observation(State.PARTIAL, f"{self.interface} was renamed {renamed[0].name}")
        if bridge.alias != self.mark:
            return Observation(State.PARTIAL, "alias is missing")
        if not bridge.up:
            return Observation(State.PARTIAL, f"{self.interface} is down")
        if bridge.mtu != MTU:
            return Observation(
                State.PARTIAL, f"{self.interface} has MTU {bridge.mtu}, wanted {MTU}"
            )
        now = self.netlink.snapshot()
        if self.address not in now.of(self.interface):
            return Observation(State.PARTIAL, f"address {self.address} is missing")
        if not now.reaches(self.address.network, bridge.index):
            return Observation(State.PARTIAL, f"route to {self.address.network} is missing")
        if key := self.wrong_setting():
            return Observation(State.PARTIAL, f"{key} is not {self._settings[key]}")
        return Observation(State.PRESENT)

    def wrong_setting(self, read: Callable[[str], str | None] = sysctl.read) -> str | None:
        """The first setting that is not as wanted. The kernel tells nobody of these."""
        for key, value in self._settings.items():
            if read(key) not in (value, None):
                return key
        return None

    async def ensure(self) -> Outcome:
        bridge, renamed = self.netlink.links(self.interface).get(self.interface), self._renamed()
        seen = self._judge(bridge, renamed)
        if seen.state is State.PRESENT:
            return Outcome.UNCHANGED
        if seen.state is State.FOREIGN:
            raise ForeignError(self.name, "ensure", seen.detail)
        for link in renamed:
            await self.netlink.remove(self.name, link)
        if bridge is None:
            return await self.ensure_from_nothing()
        now = self.netlink.snapshot()
        await self._complete(now.links.get(self.interface), now.of(self.interface))
        return Outcome.CHANGED

    async def ensure_from_nothing(self) -> Outcome:
        new = new_bridge(self.interface, mac=self.mac, group=self.group)
        await self._complete(await self.netlink.change(self.name, [new], self.interface), [])
        return Outcome.CHANGED

    async def _complete(self, bridge: Link | None, addresses: Sequence[IPv4Interface]) -> None:
        """Whatever is missing on a bridge that exists."""
        if bridge is None:
            raise TransientError(self.name, "ensure", "somebody took the bridge away")
        for key, value in self._settings.items():
            if sysctl.read(key) is not None:
                sysctl.write(key, value)
        requests = [
            set_link(bridge.index, alias=self.mark, mtu=MTU, up=True),
            set_link_route(bridge.index, self.address),
        ]
        if self.address not in addresses:
            requests.insert(0, add_address(bridge.index, self.address))
        await self.netlink.apply(self.name, "ensure", requests)

    async def is_absent(self) -> bool:
        return not self.netlink.links(self.interface) and not self._renamed()

    async def remove(self) -> Outcome:
        named = self.netlink.links(self.interface).values()
        ours = [*(link for link in named if link.group == self.group), *self._renamed()]
        for link in ours:
            await self.netlink.remove(self.name, link)
        return Outcome.CHANGED if ours else Outcome.UNCHANGED
