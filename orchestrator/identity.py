"""What tells a node from a later one of the same name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from orchestrator import linux
from orchestrator.engine.plan import Node
from orchestrator.kernel.bridge import Bridge
from orchestrator.kernel.connections import Connection, established
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.netlink import Netlink
from orchestrator.kernel.policy import Policy
from orchestrator.kernel.veth import Veth
from orchestrator.onelook import one_look
from orchestrator.processes.service import Service
from orchestrator.replay import Identity

MONITORING = "monitoring"  # the layer whose programs only look


def identities(nodes: Mapping[str, Node], netlink: Netlink) -> dict[str, Identity]:
    """Of each node that has one: inode, interface indexes, or pid and start time."""
    with one_look():
        return _identities(nodes, netlink)


def _identities(nodes: Mapping[str, Node], netlink: Netlink) -> dict[str, Identity]:
    host = netlink.snapshot()
    found: dict[str, Identity] = {}
    for name, node in nodes.items():
        match node.resource:
            case Bridge(interface=interface) if interface in host.links:
                found[name] = ("index", host.links[interface].index)
            case Namespace(path=path) if linux.is_namespace(path):
                found[name] = ("inode", path.stat().st_ino)
            case Veth(outer=outer, namespace=path, inner=inner) if linux.is_namespace(path):
                links = netlink.snapshot(path).links
                if outer in host.links and inner in links:
                    indexes = (host.links[outer].index, links[inner].index)
                    found[name] = ("indexes", *indexes, "inode", path.stat().st_ino)
            case Service(program=program):
                running = [each for each in program.running() if each.is_init]
                if running:
                    found[name] = ("pid", running[0].pid, "start", running[0].start_ticks)
            case _:
                pass
    return found


def spaces(nodes: Mapping[str, Node]) -> dict[str, Path]:
    """The namespaces by their nodes."""
    resources = (node.resource for node in nodes.values())
    return {each.name: each.path for each in resources if isinstance(each, Namespace)}


async def inner_connections(nodes: Mapping[str, Node]) -> set[Connection]:
    """Connections between two services of the lab, each from both of its ends.

    Not those within one namespace, which pass nothing that could be rebuilt, and not those of
    the monitoring: Prometheus ends a scrape that takes too long, whatever else goes on.
    """
    observers = {
        node.resource.program.namespace
        for node in nodes.values()
        if isinstance(node.resource, Service) and node.layer == MONITORING
    }
    addresses = {
        node.resource.address.ip
        for node in nodes.values()
        if isinstance(node.resource, Veth) and node.resource.namespace not in observers
    }
    found = await established(spaces(nodes))
    there = {
        (each.remote, each.remote_port, each.local, each.local_port)
        for each in found
        if each.remote != each.local and {each.remote, each.local} <= addresses
    }
    # One that its other end has given up is on its way out already, whatever is rebuilt.
    return {
        each
        for each in found
        if (each.local, each.local_port, each.remote, each.remote_port) in there
    }


def cut_by(
    connections: set[Connection], nodes: Mapping[str, Node], touched: Collection[str]
) -> set[Connection]:
    """Connections that end with a touched service's process."""
    services = {name for name in touched if isinstance(nodes[name].resource, Service)}
    return _with_end_in(connections, nodes, _namespaces(nodes, services))


def by_places(connections: set[Connection]) -> Counter[str]:
    """How many connections, each counted once, by the namespaces of their ends."""
    places: dict[Collection[object], set[str]] = {}
    for each in connections:
        places.setdefault(each.ends, set()).add(each.namespace.partition(":")[2])
    return Counter(" – ".join(sorted(names)) for names in places.values())


def through(
    connections: set[Connection], nodes: Mapping[str, Node], touched: Collection[str]
) -> set[Connection]:
    """Connections over a touched link, or past a touched policy. It breaks none: both ends keep
    their addresses, TCP sends again; but a program with a short patience may close one meanwhile,
    and one that was refused before may give up its others."""
    links = {name for name in touched if isinstance(nodes[name].resource, Veth | Policy)}
    return _with_end_in(connections, nodes, _namespaces(nodes, links))


def _namespaces(nodes: Mapping[str, Node], names: Collection[str]) -> set[str]:
    """Names (netns:…) of the namespaces that these links and services are in."""
    paths = {
        node.resource.path: node.resource.name
        for node in nodes.values()
        if isinstance(node.resource, Namespace)
    }
    found = set()
    for name in names:
        match nodes[name].resource:
            case Veth(namespace=path) | Policy(namespace=path):
                found.add(paths[path])
            case Service(program=program) if program.namespace is not None:
                found.add(paths[program.namespace])
            case _:
                pass
    return found


def _with_end_in(
    connections: set[Connection], nodes: Mapping[str, Node], namespaces: Collection[str]
) -> set[Connection]:
    at = {
        node.resource.address.ip: space
        for name, node in nodes.items()
        if isinstance(node.resource, Veth)
        for space in _namespaces(nodes, {name})
    }
    return {
        each
        for each in connections
        if each.namespace in namespaces or at.get(each.remote) in namespaces
    }
