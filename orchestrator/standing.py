"""Whether namespaces, links, addresses, routes and bridges are there as a stack promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from msgspec import Struct

from orchestrator import linux
from orchestrator.app import App
from orchestrator.errors import ResourceError
from orchestrator.kernel.netlink import Snapshot
from orchestrator.kernel.veth import DEFAULT, FORWARDING
from orchestrator.proving import Finding, Question
from orchestrator.spec import PORT_SIDE

EMPTY = Snapshot({}, {}, [])


class Place(Struct, frozen=True):
    """A service's namespace and what the stack promises of it."""

    label: str
    name: str  # in /run/netns
    links: Mapping[str, tuple[str, IPv4Interface]]  # network → interface and address
    goes_out: bool  # to any port outside

    @property
    def path(self) -> Path:
        return linux.NETNS_DIR / self.name

    def address_for(self, other: Place) -> IPv4Address | None:
        """This place's address as the other one reaches it; None if they share no network."""
        for network, (_, address) in self.links.items():
            if network in other.links:
                return address.ip
        return None


class Standing(Struct, frozen=True, dict=True):
    """What of one app's platform can be seen without a packet; every look is made once."""

    app: App

    @cached_property
    def looks(self) -> list[Question]:
        """Every question, in the order of the layers."""
        return [*self._namespaces(), *self._bridges()]

    def is_any_there(self) -> bool:
        """Whether any namespace is; where none is nothing else can be as wanted."""
        return any(linux.is_namespace(place.path) for place in self.places)

    @cached_property
    def places(self) -> list[Place]:
        stack = self.app.stack
        return [
            Place(
                stack.namespace_of(name),
                self.app.lab.namespace(stack.namespace_of(name)),
                {
                    network: (
                        stack.interface_of(name, network),
                        IPv4Interface(
                            (at.address, stack.networks[network].address.network.prefixlen)
                        ),
                    )
                    for network, at in service.networks.items()
                },
                service.outbound == "allowed",
            )
            for name, service in stack.services.items()
            if service.networks
        ]

    @cached_property
    def host(self) -> Snapshot:
        return self.app.compiler.netlink.snapshot()

    @cached_property
    def inside(self) -> dict[str, Snapshot]:
        """Of each namespace."""
        return {place.name: self._inside(place) for place in self.places}

    def on_host(self, command: str) -> str:
        """The command as it is typed in any shell: a private host is a namespace too."""
        host = self.app.lab.host
        return f"ip netns exec {host} {command}" if host else command

    def _inside(self, place: Place) -> Snapshot:
        try:
            return self.app.compiler.netlink.snapshot(place.path)
        except ResourceError:
            return EMPTY

    def _namespaces(self) -> Iterator[Question]:
        for place in self.places:
            command = f"ip netns list | grep -w {place.name}"
            yield _look("namespace", place.label, command, partial(_alive, place.path))
        for place in self.places:
            show = f"ip -n {place.name}"
            yield _look(
                "loopback", place.label, f"{show} link show lo", partial(self._loopback, place)
            )
            for interface, wanted in place.links.values():
                yield _look(
                    "address",
                    f"{place.label} {interface}",
                    f"{show} -4 address show dev {interface}",
                    partial(self._address, place, interface, wanted),
                )
            command = f"{show} route show default"
            yield _look("route", place.label, command, partial(self._route, place))

    def _loopback(self, place: Place) -> Finding:
        lo = self.inside[place.name].links.get("lo")
        up = lo is not None and lo.up
        return Finding(up, "up" if up else "down")

    def _address(self, place: Place, interface: str, wanted: IPv4Interface) -> Finding:
        seen = self.inside[place.name]
        link, addresses = seen.links.get(interface), seen.of(interface)
        up = link is not None and link.up
        found = f"{_listed(addresses)}, {'up' if up else 'down' if link else 'no such link'}"
        return Finding(up and wanted in addresses, found)

    def _route(self, place: Place) -> Finding:
        gateway = self.app.stack.networks[next(iter(place.links))].address.ip
        seen = self.inside[place.name].routes
        routes = [str(route.gateway) for route in seen if route.destination == DEFAULT]
        found = f"default via {', '.join(routes)}" if routes else "no default route"
        return Finding(routes == [str(gateway)], found)

    def _bridges(self) -> Iterator[Question]:
        for name, network in self.app.stack.networks.items():
            command = self.on_host(f"ip address show dev {name}")
            yield _look("bridge", name, command, partial(self._bridge, name, network.address))
            for place in self.places:
                if name in place.links:
                    port = place.links[name][0] + PORT_SIDE
                    command = self.on_host(f"bridge link show dev {port}")
                    yield _look("port", f"{name} {port}", command, partial(self._port, name, port))

    def _bridge(self, name: str, wanted: IPv4Interface) -> Finding:
        bridge, addresses = self.host.links.get(name), self.host.of(name)
        up = bridge is not None and bridge.kind == "bridge" and bridge.up
        return Finding(
            up and wanted in addresses, f"{_listed(addresses)}, {'up' if up else 'not up'}"
        )

    def _port(self, bridge: str, name: str) -> Finding:
        link, master = self.host.links.get(name), self.host.links.get(bridge)
        belongs = link is not None and master is not None and link.master == master.index
        forwards = belongs and link is not None and link.port_state == FORWARDING
        found = "forwarding" if forwards else "not forwarding" if belongs else "no port of it"
        return Finding(forwards, found)


def _look(group: str, name: str, command: str, look: Callable[[], Finding]) -> Question:
    async def ask() -> Finding:
        return look()

    return Question(group, name, command, ask)


def _alive(namespace: Path) -> Finding:
    if linux.is_namespace(namespace):
        return Finding(True, f"live, inode {namespace.stat().st_ino}")
    return Finding(False, "a stale file, no namespace" if namespace.exists() else "there is none")


def _listed(addresses: Sequence[IPv4Interface]) -> str:
    return ", ".join(map(str, addresses)) or "no address"
