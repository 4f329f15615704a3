"""What tells a node from a later one of the same name."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator import linux
from orchestrator.engine.plan import Node
from orchestrator.kernel.bridge import Bridge
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.netlink import Netlink
from orchestrator.kernel.veth import Veth
from orchestrator.processes.connections import Connection, established
from orchestrator.processes.service import Service
from orchestrator.replay import Identity


def identities(nodes: Mapping[str, Node], netlink: Netlink) -> dict[str, Identity]:
    """Of each node that has one: inode, interface indexes, or pid and start time."""
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


async def inner_connections(nodes: Mapping[str, Node]) -> set[Connection]:
    """Connections between two services of the lab, each from both of its ends."""
    spaces = {
        node.resource.name: node.resource.path
        for node in nodes.values()
        if isinstance(node.resource, Namespace)
    }
    addresses = {
        node.resource.address.ip for node in nodes.values() if isinstance(node.resource, Veth)
    }
    return {each for each in await established(spaces) if each.remote in addresses}


def reachable_from(
    connections: set[Connection], nodes: Mapping[str, Node], touched: frozenset[str]
) -> tuple[set[Connection], set[Connection]]:
    """Connections with an end in a touched service's namespace, and the rest.

    A rebuilt link or bridge breaks none: both ends keep their addresses, TCP sends again.
    """
    hurt = {
        f"netns:{node.resource.program.namespace.name.rpartition('.')[2]}"
        for name, node in nodes.items()
        if name in touched
        and isinstance(node.resource, Service)
        and node.resource.program.namespace is not None
    }
    at = {
        node.resource.address.ip: f"netns:{node.resource.namespace.name.rpartition('.')[2]}"
        for node in nodes.values()
        if isinstance(node.resource, Veth)
    }
    broken = {each for each in connections if {each.namespace, at.get(each.remote)} & hurt}
    return broken, connections - broken
