"""What tells a node from a later one of the same name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator import linux
from orchestrator.engine.plan import Node
from orchestrator.kernel.bridge import Bridge
from orchestrator.kernel.connections import Connection, traffic
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.netlink import Netlink
from orchestrator.kernel.policy import Policy
from orchestrator.kernel.veth import Veth
from orchestrator.onelook import one_look
from orchestrator.processes import procfs
from orchestrator.processes.service import Service
from orchestrator.replay import Identity

MONITORING = "monitoring"  # the layer whose programs only look


class Seen(Struct, frozen=True):
    """What a proof compares: of each node that has one its identity (inode, interface indexes,
    or pid and start time), connections between services, and resets in each namespace."""

    identities: Mapping[str, Identity]
    connections: frozenset[Connection]
    resets: Mapping[str, int]


def see(
    nodes: Mapping[str, Node], netlink: Netlink, expected: Mapping[str, Identity] | None = None
) -> Seen:
    """All of it as it is now: some ten milliseconds, which a thread would only make longer. With
    `expected` of services only these, each looked for first where it was: to look at every process
    of the machine takes half as long as all else."""
    found = {**_links(nodes, netlink), **_processes(nodes, expected)}
    there = traffic(_spaces(nodes))
    return Seen(found, _between_services(nodes, there.connections), there.resets)


def _links(nodes: Mapping[str, Node], netlink: Netlink) -> dict[str, Identity]:
    """Asked by name: a host may have a thousand links, and none of them is asked for more."""
    resources = [node.resource for node in nodes.values()]
    names = [each.interface for each in resources if isinstance(each, Bridge)]
    names += [each.outer for each in resources if isinstance(each, Veth)]
    host = netlink.links(*names)
    found: dict[str, Identity] = {}
    for each in resources:
        match each:
            case Bridge(interface=interface) if interface in host:
                found[each.name] = ("index", host[interface].index)
            case Namespace(path=path) if linux.is_namespace(path):
                found[each.name] = ("inode", path.stat().st_ino)
            case Veth(outer=outer, namespace=path, inner=inner) if linux.is_namespace(path):
                links = netlink.links(inner, namespace=path)
                if outer in host and inner in links:
                    indexes = (host[outer].index, links[inner].index)
                    found[each.name] = ("indexes", *indexes, "inode", path.stat().st_ino)
            case _:
                pass
    return found


def _processes(
    nodes: Mapping[str, Node], expected: Mapping[str, Identity] | None
) -> dict[str, Identity]:
    found: dict[str, Identity] = {}
    with one_look():
        for name in nodes if expected is None else expected:
            node = nodes[name]
            if isinstance(node.resource, Service):
                if expected is not None and _lives(expected[name]):
                    found[name] = expected[name]
                    continue
                running = [each for each in node.resource.program.running() if each.is_init]
                if running:
                    found[name] = ("pid", running[0].pid, "start", running[0].start_ticks)
    return found


def _lives(process: Identity) -> bool:
    match process:
        case ("pid", int(pid), "start", int(start)):
            return procfs.is_alive(pid, start)
        case _:
            return False


def _spaces(nodes: Mapping[str, Node]) -> dict[str, Path]:
    """The namespaces by their nodes."""
    resources = (node.resource for node in nodes.values())
    return {each.name: each.path for each in resources if isinstance(each, Namespace)}


def _between_services(
    nodes: Mapping[str, Node], found: Collection[Connection]
) -> frozenset[Connection]:
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
    there = {
        (each.remote, each.remote_port, each.local, each.local_port)
        for each in found
        if each.remote != each.local and {each.remote, each.local} <= addresses
    }
    # One that its other end has given up is on its way out already, whatever is rebuilt.
    return frozenset(
        each
        for each in found
        if (each.local, each.local_port, each.remote, each.remote_port) in there
    )


def cut_by(
    connections: Collection[Connection], nodes: Mapping[str, Node], touched: Collection[str]
) -> set[Connection]:
    """Connections that end with a touched service's process."""
    services = {name for name in touched if isinstance(nodes[name].resource, Service)}
    return _with_end_in(connections, nodes, _namespaces(nodes, services))


def by_places(connections: Collection[Connection]) -> Counter[str]:
    """How many connections, each counted once, by the namespaces of their ends."""
    places: dict[Collection[object], set[str]] = {}
    for each in connections:
        places.setdefault(each.ends, set()).add(each.namespace.partition(":")[2])
    return Counter(" – ".join(sorted(names)) for names in places.values())


def through(
    connections: Collection[Connection], nodes: Mapping[str, Node], touched: Collection[str]
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
    connections: Collection[Connection], nodes: Mapping[str, Node], namespaces: Collection[str]
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
