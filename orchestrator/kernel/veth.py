"""Resource: a veth pair from a bridge into a namespace, with address and default route."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from msgspec import Struct

from orchestrator import linux
from orchestrator.errors import ForeignError, ResourceError, TransientError
from orchestrator.events import Outcome
from orchestrator.kernel import sysctl
from orchestrator.kernel.bridge import MTU
from orchestrator.kernel.netlink import Like, Netlink, Snapshot
from orchestrator.kernel.rtnetlink import (
    ETHERNET_MTU,
    Link,
    Request,
    add_address,
    new_veth,
    remove_link,
    set_default_route,
    set_hairpin,
    set_link,
    set_link_route,
)
from orchestrator.resource import Observation, State

DEFAULT = IPv4Network("0.0.0.0/0")
FORWARDING = 3  # BR_STATE_FORWARDING of linux/if_bridge.h
FORWARDING_DEADLINE_S = 5.0
# Bytes. On the way out packets are as large as on an Ethernet, and so is what others are told that
# they may send (MSS).
MTU_OUTSIDE = ETHERNET_MTU

Ends = tuple[Link | None, list[Link]]  # in the namespace: by the name, and renamed ones


class Veth(Struct, frozen=True):
    """A pair of which one end is a port of the bridge and the other is in the namespace.

    The inner end is made in its namespace at once: moving it there later costs a grace
    period of RCU. Both ends are made down, since an inner end that is up before its peer
    exists is refused (ENOTCONN). `hairpin` is for services with published ports: where
    br_netfilter is loaded, a call of theirs to such a port comes back through the same port.
    """

    name: str
    bridge: str
    outer: str
    inner: str
    namespace: Path
    address: IPv4Interface
    gateway: IPv4Address | None
    mac: str
    outer_mac: str
    hairpin: bool
    mark: str
    group: int
    netlink: Netlink

    async def observe(self) -> Observation:
        host = self._outside()
        return self._judge(host, self._inside()) if host else self._unpaired(self._ends())

    def _outside(self) -> dict[str, Link]:
        """The outer end and the bridge; nothing where there is no outer end, or no longer."""
        if not self.netlink.links(self.outer):
            return {}
        found = self.netlink.links(self.bridge, self.outer)
        return found if self.outer in found else {}

    def _inside(self) -> Snapshot | None:
        """What there is in the namespace if there is one."""
        if not linux.is_namespace(self.namespace):
            return None
        return self.netlink.snapshot(self.namespace)

    def _ends(self) -> Ends:
        """What has the inner end's name, and inner ends of ours under another one. Outer ones are
        found by these: both are gone when one of them is."""
        if not linux.is_namespace(self.namespace):
            return None, []
        return self.netlink.named_or_renamed(self._like, self.namespace)

    @property
    def _like(self) -> Like:
        return Like(self.inner, "veth", self.mac, self.group)

    def _unpaired(self, ends: Ends) -> Observation:
        """Without the outer end: an inner one alone is a rest of ours, or somebody else's."""
        inner, renamed = ends
        if inner is None and renamed:
            return Observation(State.PARTIAL, f"{self.inner} was renamed {renamed[0].name}")
        if inner is None:
            return Observation(State.ABSENT)
        if inner.group != self.group:
            return self._foreign_inside()
        return Observation(State.PARTIAL, f"{self.outer} and {self.inner} are no pair")

    def _foreign_inside(self) -> Observation:
        detail = f"link {self.inner} in {self.namespace.name} belongs to somebody else"
        return Observation(State.FOREIGN, detail)

    def _judge(self, host: Mapping[str, Link], inside: Snapshot | None) -> Observation:
        outer = host[self.outer]
        if outer.group != self.group:
            owner = outer.alias or "somebody else"
            return Observation(State.FOREIGN, f"link {self.outer} belongs to {owner}")
        if inside is None:
            return Observation(State.PARTIAL, f"namespace {self.namespace.name} is missing")
        inner = inside.links.get(self.inner)
        if inner is not None and inner.group != self.group:
            return self._foreign_inside()
        wrong = self.differences(host, inside)
        return Observation(State.PARTIAL if wrong else State.PRESENT, "; ".join(wrong))

    def differences(self, host: Mapping[str, Link], inside: Snapshot) -> list[str]:
        """What is not as wanted, in words."""
        bridge, outer = host.get(self.bridge), host.get(self.outer)
        inner = inside.links.get(self.inner)
        if outer is None or inner is None or outer.peer_index != inner.index:
            return [f"{self.outer} and {self.inner} are no pair"]
        renamed = [link for link in inside.links.values() if self._like.is_other_than(link)]
        wrong = [f"{self.inner} was renamed {link.name}" for link in renamed]
        if bridge is None or outer.master != bridge.index:
            wrong.append(f"{self.outer} is no port of {self.bridge}")
        if outer.alias != self.mark or inner.alias != self.mark:
            wrong.append("alias is missing")
        if inner.mac != self.mac:
            wrong.append(f"{self.inner} has MAC {inner.mac}, wanted {self.mac}")
        small = (each for each in (outer, inner) if each.mtu != MTU)
        wrong += [f"{each.name} has MTU {each.mtu}, wanted {MTU}" for each in small]
        if self.hairpin and not outer.hairpin:
            wrong.append(f"{self.outer} is not in hairpin mode")
        if not outer.up:
            wrong.append(f"{self.outer} is down")
        if not inner.up:
            wrong.append(f"{self.inner} is down")
        if self.address not in inside.of(self.inner):
            wrong.append(f"address {self.address} is missing")
        elif inner.up and not inside.reaches(self.address.network, inner.index):
            wrong.append(f"route to {self.address.network} is missing")
        if self.gateway is not None and not self._has_route(inside, inner.index):
            wrong.append(f"default route via {self.gateway} is missing")
        if not wrong and outer.port_state != FORWARDING:
            wrong.append(f"{self.outer} is not forwarding yet")
        return wrong

    def _has_route(self, inside: Snapshot, index: int) -> bool:
        return any(
            each.destination == DEFAULT and each.gateway == self.gateway and each.oif == index
            for each in inside.routes
        )

    async def ensure(self) -> Outcome:
        host = self._outside()
        outer = host.get(self.outer)
        inside, ends = (self._inside(), None) if outer is not None else (None, self._ends())
        seen = self._judge(host, inside) if ends is None else self._unpaired(ends)
        if seen.state is State.PRESENT:
            return Outcome.UNCHANGED
        if seen.state is State.FOREIGN:
            raise ForeignError(self.name, "ensure", seen.detail)
        bridge = self._bridge()
        inner = inside.links.get(self.inner) if inside is not None else None
        if outer is None or inside is None or inner is None or outer.peer_index != inner.index:
            await self._clear(outer, ends)
            outer = await self._make(bridge)
            inside = Snapshot({}, {}, [])
        elif renamed := self._ends()[1]:
            await self._take_away("ensure", renamed)
        await self._forwards(await self._complete(outer, inside, bridge))
        return Outcome.CHANGED

    async def ensure_from_nothing(self) -> Outcome:
        bridge = self._bridge()
        outer = await self._make(bridge)
        await self._forwards(await self._complete(outer, Snapshot({}, {}, []), bridge))
        return Outcome.CHANGED

    def _bridge(self) -> int:
        """Index of the bridge. Raises ResourceError if the namespace is missing, TransientError if
        the bridge is."""
        if not linux.is_namespace(self.namespace):
            detail = f"namespace {self.namespace.name} is missing"
            raise ResourceError(self.name, "ensure", detail)
        try:
            return socket.if_nametoindex(self.bridge)
        except OSError as error:
            reason = f"bridge {self.bridge} is missing"
            raise TransientError(self.name, "ensure", reason) from error

    async def _clear(self, outer: Link | None, ends: Ends | None) -> None:
        """Takes ends without their partners away, and those that were renamed."""
        if outer is not None:
            await self.netlink.remove(self.name, outer)
        await self._take_away("ensure", self._ours(ends or self._ends()))

    def _ours(self, ends: Ends) -> list[Link]:
        inner, renamed = ends
        return [inner, *renamed] if inner is not None and inner.group == self.group else renamed

    async def _take_away(self, action: str, ends: Sequence[Link]) -> None:
        """Inner ends, each with its outer one."""
        gone = [remove_link(link.index) for link in ends]
        await self.netlink.apply(self.name, action, gone, self.namespace)

    async def _make(self, bridge: int) -> Link:
        """The pair, both ends down; the outer one knows the index of the inner one."""
        there = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pair = new_veth(
                self.outer,
                mac=self.outer_mac,
                master=bridge,
                group=self.group,
                peer=self.inner,
                peer_mac=self.mac,
                peer_namespace=there,
                mtu=MTU,
            )
            made = await self.netlink.change(self.name, [pair], self.outer)
        finally:
            os.close(there)
        if made is None:
            raise TransientError(self.name, "ensure", "somebody took the pair away")
        return made

    async def _complete(self, outer: Link, inside: Snapshot, bridge: int) -> Link | None:
        """Whatever is missing on a pair that exists. Returns the outer end as it is then.

        Order matters: up before the route, and the outer end first. The inner one has its carrier
        then as soon as it is up; otherwise its queue would drop what is sent until the kernel has
        found the carrier, unseen by who looks at the port (moby issue 49364).
        """
        sysctl.no_ipv6(self.outer)
        ports = [set_link(outer.index, master=bridge, alias=self.mark, mtu=MTU, up=True)]
        if self.hairpin:
            ports.append(set_hairpin(outer.index))
        await self.netlink.apply(self.name, "ensure", ports)
        index, inner = outer.peer_index, inside.links.get(self.inner)
        requests: list[Request] = []
        if self.address not in inside.of(self.inner):
            requests.append(add_address(index, self.address))
        mac = self.mac if inner is not None and inner.mac != self.mac else None
        requests.append(set_link(index, alias=self.mark, mac=mac, mtu=MTU, up=True))
        requests.append(set_link_route(index, self.address))
        if self.gateway is not None and not self._has_route(inside, index):
            requests.append(set_default_route(index, self.gateway, mtu=MTU_OUTSIDE))
        await self.netlink.apply(self.name, "ensure", requests, self.namespace)
        return self.netlink.links(self.outer).get(self.outer)

    async def _forwards(self, outer: Link | None) -> None:
        """The port drops packets until it is forwarding; carrier may come a moment after up."""
        pause_s, waited_s = 0.0005, 0.0
        while outer is not None and outer.group == self.group:
            if outer.port_state == FORWARDING:
                return
            if waited_s > FORWARDING_DEADLINE_S:
                raise TransientError(self.name, "ensure", f"{self.outer} is not forwarding")
            await asyncio.sleep(pause_s)
            waited_s += pause_s
            pause_s = min(pause_s * 1.5, 0.05)
            outer = self.netlink.links(self.outer).get(self.outer)
        raise TransientError(self.name, "ensure", "somebody took the pair away")

    async def is_absent(self) -> bool:
        return not self.netlink.links(self.outer) and self._ends() == (None, [])

    async def remove(self) -> Outcome:
        outer = self.netlink.links(self.outer).get(self.outer)
        if outer is not None:
            if outer.group != self.group:
                return Outcome.UNCHANGED
            await self.netlink.remove(self.name, outer)
        rest = self._ours(self._ends())  # none now, where it was a pair
        await self._take_away("remove", rest)
        return Outcome.CHANGED if outer is not None or rest else Outcome.UNCHANGED
