"""Reads a lab's network from the kernel: links, addresses, routes, sockets, redirections.

Changes nothing and knows the plan only to name things by it; `network.compare` does the rest.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from msgspec import Struct

from orchestrator import linux
from orchestrator.drawing.network import (
    FORWARDING,
    LIVE,
    STALE,
    Bridge,
    Interface,
    Listener,
    Network,
    Place,
    Plan,
    Port,
    Published,
)
from orchestrator.drawing.peers import peer_namespaces
from orchestrator.errors import ResourceError
from orchestrator.kernel import sysctl
from orchestrator.kernel.iptables import Tables
from orchestrator.kernel.netlink import Netlink, Snapshot
from orchestrator.kernel.rtnetlink import Link, Route
from orchestrator.lab import Lab

PROC = Path("/proc")
TCP_LISTEN = "0A"  # include/net/tcp_states.h
PORT_STATES = ("disabled", "listening", "learning", FORWARDING, "blocking")  # linux/if_bridge.h
REDIRECTION = re.compile(r"--dport (\d+)\b.* -j DNAT --to-destination ([\d.]+):(\d+)")
ROOT = "the root namespace"
# Devices that tunnel modules put into every new namespace.
FALLBACK_DEVICES = frozenset(
    {"tunl0", "sit0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0"}
)


class Surroundings(Struct, frozen=True):
    """Namespaces that may be at the other end of a veth."""

    paths: Mapping[Path, str]  # how to get in → what people call it
    inodes: Mapping[int, list[int]]  # inode → processes, lowest pid first


def survey(lab: Lab, plan: Plan, netlink: Netlink, tables: Tables) -> Network:
    """The network of the lab on whose host this process is. Raises ResourceError, OSError."""
    host = netlink.snapshot()
    around = _surroundings()
    peers = peer_namespaces(around.paths)
    labels = {namespace: label for label, namespace in plan.places.items()}
    bridges = [link for link in host.links.values() if _is_shown(link, lab, plan)]
    indices = {link.index: link for link in host.links.values()}
    masters = {link.index for link in bridges}
    ports = [link for link in host.links.values() if link.master in masters]
    behind = {peers[link.index] for link in ports if link.index in peers}
    wanted = {linux.NETNS_DIR / namespace for namespace in plan.places.values()}
    places: dict[Path, Place] = {}
    snapshots: dict[Path, Snapshot] = {}
    for path in sorted(path for path in behind | wanted if path is not None):
        if path in wanted and not linux.is_namespace(path):
            if path.exists():
                places[path] = Place(labels[path.name], path.name, STALE, ours=True)
            continue
        try:
            snapshots[path] = netlink.snapshot(path)
        except ResourceError:
            continue  # its last process ended while we looked
        name = around.paths.get(path, path.name)
        label = labels.get(name, name)
        ends = {link.peer_index for link in ports if peers.get(link.index) == path}
        places[path] = _place(path, label, name, snapshots[path], lab, around, ends)

    def port_of(link: Link) -> Port:
        state = "down" if not link.up else PORT_STATES[link.port_state]
        ours = link.group == lab.group
        if not link.running and link.up:
            state = "no carrier"
        if link.kind != "veth":
            return Port(link.name, link.kind or "device", state, ours)
        if link.index not in peers:
            return Port(link.name, "veth", state, ours, "", _here(link.peer_index, indices))
        path = peers[link.index]
        if path is None or path not in places:
            return Port(link.name, "veth", state, ours, "a namespace without a name", "?")
        inside = snapshots[path].links.values()
        inner = next((each.name for each in inside if each.index == link.peer_index), "?")
        return Port(link.name, "veth", state, ours, places[path].label, inner)

    return Network(
        lab=lab.name,
        host=lab.host,
        interfaces=tuple(
            _interface(link, host)
            for link in host.links.values()
            if link not in bridges and not link.master
            # An end of a pair without an address belongs to a container's network.
            if host.of(link.name) or (link.up and link.kind != "veth")
        ),
        routes=tuple(_route(route, host) for route in host.routes if not _is_direct(route, host)),
        forwarding=sysctl.read("net.ipv4.ip_forward") == "1",
        bridges=tuple(
            Bridge(
                link.name,
                "up" if link.up else "down",
                link.group == lab.group,
                tuple(str(each) for each in host.of(link.name)),
                tuple(port_of(port) for port in ports if port.master == link.index),
            )
            for link in bridges
        ),
        places=tuple(places.values()),
        published=tuple(_published(lab, plan, tables)),
    )


def _here(index: int, links: Mapping[int, Link]) -> str:
    """A link of the host in words."""
    link = links.get(index)
    if link is None:
        return "?"
    master = links.get(link.master)
    return f"{link.name} (port of {master.name})" if master else link.name


def _is_shown(link: Link, lab: Lab, plan: Plan) -> bool:
    """Bridges of this lab, and whatever stands in the place of one."""
    return link.kind == "bridge" and (link.group == lab.group or link.name in plan.bridges)


def _surroundings() -> Surroundings:
    """Named namespaces, then those that only processes hold, each once."""
    named: dict[int, Path] = {}
    if linux.NETNS_DIR.is_dir():
        for path in sorted(linux.NETNS_DIR.iterdir()):
            if linux.is_namespace(path):
                named.setdefault(path.stat().st_ino, path)
    inodes: dict[int, list[int]] = {}
    for pid in sorted(int(each) for each in os.listdir(PROC) if each.isdigit()):  # noqa: PTH208
        try:
            inodes.setdefault((PROC / str(pid) / "ns/net").stat().st_ino, []).append(pid)
        except OSError:
            continue
    paths = {path: path.name for path in named.values()}
    for inode, pids in inodes.items():
        if inode not in named:
            name = ROOT if pids[0] == 1 else f"{_program(pids[0])} (pid {pids[0]})"
            paths[PROC / str(pids[0]) / "ns/net"] = name
    return Surroundings(paths, inodes)


def _place(
    path: Path,
    label: str,
    name: str,
    seen: Snapshot,
    lab: Lab,
    around: Surroundings,
    ends: set[int],
) -> Place:
    """The namespace; of the root one, which is no part of a lab, only the `ends` of our pairs."""
    lo = seen.links.get("lo")
    shown = [
        _interface(link, seen)
        for link in seen.links.values()
        if (link.index in ends if name == ROOT else _is_telling(link))
    ]
    if name == ROOT:
        return Place(label, name, LIVE, False, tuple(shown))
    return Place(
        label,
        name,
        LIVE,
        ours=lo is not None and lo.group == lab.group,
        interfaces=tuple(shown),
        routes=tuple(_route(route, seen) for route in seen.routes if not _is_direct(route, seen)),
        listeners=tuple(_listeners(path, around)),
    )


def _is_telling(link: Link) -> bool:
    """Of `lo` only its being down is worth telling, of fallback devices their being up."""
    return not link.up if link.name == "lo" else link.up or link.name not in FALLBACK_DEVICES


def _interface(link: Link, seen: Snapshot) -> Interface:
    return Interface(
        link.name,
        link.kind or ("loopback" if link.name == "lo" else "device"),
        link.up,
        link.running,
        link.mac,
        tuple(str(each) for each in seen.of(link.name)),
    )


def _is_direct(route: Route, seen: Snapshot) -> bool:
    """Whether the route only repeats what an address says."""
    networks = {each.network for each in seen.addresses.get(route.oif, ())}
    return route.gateway is None and route.destination in networks


def _route(route: Route, seen: Snapshot) -> str:
    names = {link.index: link.name for link in seen.links.values()}
    to = str(route.destination) if route.destination.prefixlen else "default"
    via = f" via {route.gateway}" if route.gateway else ""
    return f"{to}{via} dev {names.get(route.oif, '?')}"


# -- sockets -----------------------------------------------------------------------------


def _listeners(path: Path, around: Surroundings) -> Iterator[Listener]:
    """Listening TCP sockets of the namespace, once per port and address."""
    with linux.inside(path):
        found = [*_table("tcp"), *_table("tcp6")]
    owners = _owners({inode for _, _, inode in found}, path.stat().st_ino, around)
    seen: set[tuple[str, int]] = set()
    for address, port, inode in sorted(found, key=lambda each: (each[1], each[0])):
        if (address, port) not in seen:
            seen.add((address, port))
            pid = owners.get(inode, 0)
            yield Listener(port, address, _program(pid) if pid else "?", pid)


def _table(name: str) -> Iterator[tuple[str, int, str]]:
    """(address, port, inode) of /proc/net/tcp or tcp6 where the calling thread is."""
    file = PROC / "thread-self/net" / name
    for line in file.read_text().splitlines()[1:] if file.exists() else ():
        fields = line.split()
        if fields[3] == TCP_LISTEN:
            address, _, port = fields[1].partition(":")
            yield _address(address), int(port, 16), fields[9]


def _address(text: str) -> str:
    """Four bytes, or four times four, each in the order of this machine: proc_net_tcp.rst."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    raw = b"".join(words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _owners(sockets: set[str], namespace: int, around: Surroundings) -> dict[str, int]:
    """Inode of a socket → the first process that has it; those of the namespace are asked first."""
    inside = around.inodes.get(namespace, [])
    others = [pid for inode, pids in around.inodes.items() if inode != namespace for pid in pids]
    found: dict[str, int] = {}
    for pid in (*inside, *others):
        if len(found) == len(sockets):
            break
        for inode in _sockets(pid):
            if inode in sockets:
                found.setdefault(inode, pid)
    return found


def _sockets(pid: int) -> Iterator[str]:
    try:
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target[8:-1]
    except OSError:
        return


def _program(pid: int) -> str:
    """The process's name; of an interpreter, what it runs."""
    try:
        name = (PROC / str(pid) / "comm").read_text().strip()
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "?"
    return program_name(name, words)


def program_name(name: str, words: Iterable[str]) -> str:
    """`python http.server` for `python -m http.server 80`: the interpreter alone says little."""
    if not name.startswith("python"):
        return name
    rest = iter([*words][1:])
    for word in rest:
        if word == "-m":
            return f"{name} {next(rest, '')}".strip()
        if word == "-c":
            return name
        if word and not word.startswith("-"):
            return f"{name} {Path(word).name}"
    return name


# -- redirections ------------------------------------------------------------------------


def _published(lab: Lab, plan: Plan, tables: Tables) -> Iterator[Published]:
    """Redirections to addresses of the stack's networks, by whomever."""
    networks = [IPv4Network(address, strict=False) for address in plan.bridges.values()]
    for rule in tables.rules:
        match = REDIRECTION.search(rule.line)
        if match and any(IPv4Address(match[2]) in network for network in networks):
            ours = f'"{lab.mark} ' in rule.line
            yield Published(int(match[1]), match[2], int(match[3]), ours)
