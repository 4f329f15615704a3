"""What the kernel has, what the plan wants, and what lies between; frozen and pure."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

LIVE, MISSING, STALE = "live", "missing", "stale"
FORWARDING = "forwarding"


class Interface(Struct, frozen=True):
    """One link with its addresses; `carrier` tells whether the other side is up too."""

    name: str
    kind: str
    up: bool
    carrier: bool
    mac: str
    addresses: tuple[str, ...]

    @property
    def state(self) -> str:
        if not self.up:
            return "down"
        return "up" if self.carrier else "no carrier"


class Listener(Struct, frozen=True):
    """A listening TCP socket and the program that holds it."""

    port: int
    address: str
    program: str
    pid: int

    @property
    def where(self) -> str:
        """`80`, or with the address where that is not every one."""
        return (
            str(self.port) if self.address in ("0.0.0.0", "::") else f"{self.address}:{self.port}"
        )


class Place(Struct, frozen=True):
    """A network namespace behind a port; `label` is the stack's name for it where it has one."""

    label: str
    namespace: str
    state: str
    ours: bool
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()


class Port(Struct, frozen=True):
    """A port of a bridge and the interface at its other end.

    `place` is the label of the namespace there; empty with an `interface` means this host,
    empty without one that the port is no veth.
    """

    name: str
    kind: str
    state: str
    ours: bool
    place: str = ""
    interface: str = ""


class Bridge(Struct, frozen=True):
    """A bridge with its ports. One of the plan that is missing has the state `missing`."""

    name: str
    state: str
    ours: bool
    addresses: tuple[str, ...]
    ports: tuple[Port, ...]


class Published(Struct, frozen=True):
    """A port of the host that the live rules redirect."""

    port: int
    address: str
    to: int
    ours: bool


class Lack(Struct, frozen=True):
    """What the plan has and the kernel does not, by the name of the node."""

    node: str
    text: str


class Network(Struct, frozen=True):
    """A lab's network as it is now."""

    lab: str
    host: str  # the namespace that stands for the host; empty for the host itself
    interfaces: tuple[Interface, ...]
    routes: tuple[str, ...]
    forwarding: bool
    bridges: tuple[Bridge, ...]
    places: tuple[Place, ...]
    published: tuple[Published, ...]
    lacks: tuple[Lack, ...] = ()

    def place(self, label: str) -> Place | None:
        return next((place for place in self.places if place.label == label), None)

    def lacks_of(self, *nodes: str) -> list[str]:
        """What is missing of these nodes; a name that ends in `.` stands for all below it."""
        return [
            lack.text
            for lack in self.lacks
            if any(
                lack.node == node or (node[-1] == "." and lack.node.startswith(node))
                for node in nodes
            )
        ]

    def published_of(self, place: Place) -> list[Published]:
        own = {
            address.partition("/")[0]
            for interface in place.interfaces
            for address in interface.addresses
        }
        return [each for each in self.published if each.address in own]

    def label_at(self, address: str) -> str:
        """The label of the namespace that has the address."""
        for place in self.places:
            for interface in place.interfaces:
                if address in (each.partition("/")[0] for each in interface.addresses):
                    return place.label
        return ""


class WantedLink(Struct, frozen=True):
    """A veth pair as the plan has it; `node` is its name there."""

    node: str
    place: str
    bridge: str
    port: str
    interface: str
    address: str
    gateway: str


class Plan(Struct, frozen=True):
    """What the stack wants of the network."""

    bridges: dict[str, str]  # name → address
    places: dict[str, str]  # label → namespace
    links: tuple[WantedLink, ...]
    listens: tuple[tuple[str, str, int], ...]  # node, label, port
    published: tuple[tuple[int, str, int], ...]  # port of the host, address, port


def compare(seen: Network, plan: Plan) -> Network:
    """The network with the plan's missing parts put in as missing, and every lack told."""
    seen = _recognised(seen, plan)
    lacks = [*_bridge_lacks(seen, plan)]
    places = {place.label: place for place in seen.places}
    for label, namespace in plan.places.items():
        place = places.get(label)
        if place is not None and place.state == LIVE:
            if place.namespace != namespace:
                lacks.append(Lack(f"netns:{label}", f"the name {namespace} is missing"))
        else:
            state = place.state if place else MISSING
            places[label] = Place(label, namespace, state, ours=True)
            text = "is a stale file" if state == STALE else "is missing"
            lacks.append(Lack(f"netns:{label}", f"namespace {namespace} {text}"))
    bridges = {bridge.name: bridge for bridge in seen.bridges}
    for name, address in plan.bridges.items():
        if name not in bridges:
            bridges[name] = Bridge(name, MISSING, True, (address,), ())
    for link in plan.links:
        place, bridge = places[link.place], bridges[link.bridge]
        port = next((port for port in bridge.ports if port.name == link.port), None)
        if port is None:
            ghost = Port(link.port, "veth", MISSING, True, link.place, link.interface)
            bridges[link.bridge] = replace(bridge, ports=(*bridge.ports, ghost))
        lacks += [Lack(link.node, text) for text in _link_lacks(link, place, port)]
    for node, label, number in plan.listens:
        place = places[label]
        if place.state == LIVE and number not in {each.port for each in place.listeners}:
            lacks.append(Lack(node, f"nothing listens on {number}"))
    live = {(each.port, each.address, each.to) for each in seen.published if each.ours}
    for host, address, to in plan.published:
        if (host, address, to) not in live:
            lacks.append(Lack("nat:rules", f"{host} → {address}:{to} is not published"))
    if not seen.forwarding:
        lacks.append(Lack("sysctl:ip_forward", "forwarding is off"))
    order = {label: at for at, label in enumerate(plan.places)}
    foremost = {name: at for at, name in enumerate(plan.bridges)}
    return replace(
        seen,
        bridges=tuple(
            replace(
                each, ports=tuple(sorted(each.ports, key=lambda port: _port_order(port, order)))
            )
            for each in sorted(
                bridges.values(), key=lambda b: (foremost.get(b.name, len(foremost)), b.name)
            )
        ),
        places=tuple(
            sorted(
                places.values(), key=lambda place: (order.get(place.label, len(order)), place.label)
            )
        ),
        lacks=tuple(lacks),
    )


def _recognised(seen: Network, plan: Plan) -> Network:
    """A namespace of ours that lost its name, but hangs on its port, is called by its label."""
    known = {place.label: place for place in seen.places}
    ports = {port.name: port for bridge in seen.bridges for port in bridge.ports}
    labels: dict[str, str] = {}
    for link in plan.links:
        port = ports.get(link.port)
        place = known.get(port.place) if port else None
        if place and place.ours and place.label not in plan.places and link.place not in known:
            labels[place.label] = link.place
    return replace(
        seen,
        bridges=tuple(
            replace(
                bridge,
                ports=tuple(
                    replace(port, place=labels.get(port.place, port.place)) for port in bridge.ports
                ),
            )
            for bridge in seen.bridges
        ),
        places=tuple(
            replace(place, label=labels.get(place.label, place.label)) for place in seen.places
        ),
    )


def _port_order(port: Port, order: dict[str, int]) -> tuple[bool, int, str]:
    return (not port.ours, order.get(port.place, len(order)), port.name)


def _bridge_lacks(seen: Network, plan: Plan) -> Iterator[Lack]:
    live = {bridge.name: bridge for bridge in seen.bridges}
    for name, address in plan.bridges.items():
        bridge = live.get(name)
        if bridge is None:
            yield Lack(f"bridge:{name}", f"bridge {name} is missing")
            continue
        if bridge.state == "down":
            yield Lack(f"bridge:{name}", f"{name} is down")
        if address not in bridge.addresses:
            yield Lack(f"bridge:{name}", f"{name} lacks its address {address}")


def _link_lacks(link: WantedLink, place: Place, port: Port | None) -> Iterator[str]:
    inner = next((each for each in place.interfaces if each.name == link.interface), None)
    if port is None:
        yield f"{link.port} is no port of {link.bridge}"
    elif port.state != FORWARDING:
        yield f"{link.port} is {port.state}"
    elif (port.place, port.interface) != (link.place, link.interface) and inner is not None:
        yield f"{link.port} and {link.interface} are no pair"
    if place.state != LIVE:
        return
    if inner is None:
        yield f"{link.interface} is missing"
        return
    if not inner.up:
        yield f"{link.interface} is down"
    if link.address not in inner.addresses:
        yield f"{link.interface} lacks its address {link.address}"
    if link.gateway and f"default via {link.gateway} dev {link.interface}" not in place.routes:
        yield f"the default route via {link.gateway} is missing"
