"""A lab's network as text, with box characters; pure."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.drawing.network import LIVE, MISSING, Bridge, Interface, Network, Place, Port
from orchestrator.drawing.svg import printable

WRONG = "✗"
STEM = 30  # least width of what stands before a namespace's box


def as_text(network: Network) -> str:
    """The host, then each bridge with a branch for every port, and what is missing."""
    where = f"network namespace {network.host}" if network.host else "this host"
    lines = [f"lab {network.lab} on {where}", *_boxed("host", list(_host(network)))]
    for bridge in network.bridges:
        lines += ["", *_bridge(network, bridge)]
    apart = [place for place in network.places if place.label not in _connected(network)]
    for place in apart:
        lines += ["", *_boxed(_heading(place), list(_place(network, place)))]
    if network.lacks:
        lines += ["", "the plan has, the kernel lacks:"]
        width = max(len(lack.node) for lack in network.lacks)
        lines += [f"  {WRONG} {lack.node:{width}}  {lack.text}" for lack in network.lacks]
    return "\n".join(printable_lines(lines)) + "\n"


def printable_lines(lines: list[str]) -> Iterator[str]:
    """No name from the kernel steers the terminal; no line ends in blanks."""
    return (printable(line).rstrip() for line in lines)


def _connected(network: Network) -> set[str]:
    return {port.place for bridge in network.bridges for port in bridge.ports}


def interface_line(each: Interface) -> str:
    """`veth-web  up  10.0.0.10/16`, and what is wrong."""
    state = each.state if each.state == "up" else f"{WRONG} {each.state}"
    addresses = ", ".join(each.addresses) or "no address"
    return f"{each.name}  {state}  {addresses}"


def _host(network: Network) -> Iterator[str]:
    yield from map(interface_line, network.interfaces)
    yield from network.routes
    yield "forwarding on" if network.forwarding else f"{WRONG} forwarding off"
    for each in network.published:
        label = network.label_at(each.address) or "nobody"
        mark = "" if each.ours else "  (foreign rule)"
        yield f"published {each.port} → {each.address}:{each.to} ({label}){mark}"


def _boxed(title: str, inner: list[str]) -> list[str]:
    width = max([len(title) + 3, *map(len, inner)])
    return [
        f"┌─ {title} {'─' * (width - len(title) - 1)}┐",
        *(f"│ {line:{width}} │" for line in inner),
        f"└{'─' * (width + 2)}┘",
    ]


def _heading(place: Place) -> str:
    names = place.label if place.label == place.namespace else f"{place.label} ({place.namespace})"
    return names if place.ours else f"{names} · foreign"


def _bridge(network: Network, bridge: Bridge) -> Iterator[str]:
    state = bridge.state if bridge.state == "up" else f"{WRONG} {bridge.state}"
    owner = "" if bridge.ours else "  foreign"
    yield f"{bridge.name}  {state}  {', '.join(bridge.addresses) or 'no address'}{owner}"
    stems = [f"{port.name} {_port_state(port)} " for port in bridge.ports]
    width = max([STEM, *map(len, stems)])
    for number, (port, stem) in enumerate(zip(bridge.ports, stems, strict=True), start=1):
        last = number == len(bridge.ports)
        trunk = " " if last else "│"
        line = "─" if port.state != MISSING else "╌"
        branch = f"{'└' if last else '├'}─{WRONG if _is_wrong(port) else '─'} "
        place = network.place(port.place) if port.place else None
        yield "│"
        if place is None:
            yield f"{branch}{stem}{line * (width - len(stem) + 1)}─ {_far(port)}"
            continue
        top, *rest = _boxed(_heading(place), list(_place(network, place, port.interface)))
        yield f"{branch}{stem}{line * (width - len(stem))}─┬{top[1:]}"
        for each in rest:
            yield f"{trunk}{' ' * (width + 4)}{each}"


def _port_state(port: Port) -> str:
    return port.state if port.ours else f"{port.state}, foreign"


def _is_wrong(port: Port) -> bool:
    return not port.ours or port.state != "forwarding"


def _far(port: Port) -> str:
    if port.place:
        return f"{port.interface} in {port.place}"
    return f"{port.interface} on this host" if port.interface else port.kind


def _place(network: Network, place: Place, interface: str = "") -> Iterator[str]:
    """All about the namespace, the interface that is looked at first."""
    if place.state != LIVE:
        yield f"{WRONG} {place.state}"
        return
    for each in sorted(place.interfaces, key=lambda each: each.name != interface):
        yield interface_line(each)
    yield from place.routes
    yield from dict.fromkeys(  # once where it listens for both versions of IP
        f"listens {each.where}  {each.program}" + (f" ({each.pid})" if each.pid else "")
        for each in place.listeners
    )
    for published in network.published_of(place):
        yield f"published as {published.port} of the host"
    nodes = (f"netns:{place.label}", f"service:{place.label}", f"veth:{place.label}")
    for text in network.lacks_of(*nodes, f"veth:{place.label}."):
        yield f"{WRONG} {text}"
