"""Who is where, who calls whom, and what stands between: read off the graph. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path

from msgspec import Struct

from orchestrator.diagnosis.findings import closure
from orchestrator.engine.plan import Node
from orchestrator.flows import TCP, declared_ports, flows_of
from orchestrator.kernel.bridge import Bridge
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.nat import Nat
from orchestrator.kernel.veth import Veth
from orchestrator.spec import Stack

FORWARDING, RULES = "sysctl:ip_forward", "nat:rules"


class Place(Struct, frozen=True):
    """A namespace of the lab with its links."""

    label: str
    namespace: Namespace
    veths: tuple[Veth, ...]

    @property
    def path(self) -> Path:
        return self.namespace.path

    @property
    def nodes(self) -> list[str]:
        """What must be whole before a packet comes in or goes out."""
        bridges = dict.fromkeys(f"bridge:{veth.bridge}" for veth in self.veths)
        rules = ("guard:ports", f"policy:{self.label}")
        return [self.namespace.name, *rules, *(veth.name for veth in self.veths), *bridges]


class Site(Struct, frozen=True, dict=True):
    """The graph of one stack, as far as a request cares.

    `bridged_rules`: packets between two ports of a bridge pass the rules too (br_netfilter).
    """

    stack: Stack
    nodes: Mapping[str, Node]
    bridged_rules: bool

    @cached_property
    def places(self) -> dict[str, Place]:
        """By the namespace's short name."""
        veths: dict[Path, list[Veth]] = {}
        for node in self.nodes.values():
            if isinstance(node.resource, Veth):
                veths.setdefault(node.resource.namespace, []).append(node.resource)
        return {
            (label := each.name.partition(":")[2]): Place(
                label, each, tuple(veths.get(each.path, ()))
            )
            for node in self.nodes.values()
            if isinstance(each := node.resource, Namespace)
        }

    @property
    def nat(self) -> Nat:
        found = self.nodes[RULES].resource
        assert isinstance(found, Nat)
        return found

    @cached_property
    def bridges(self) -> dict[str, Bridge]:
        return {
            node.resource.interface: node.resource
            for node in self.nodes.values()
            if isinstance(node.resource, Bridge)
        }

    @cached_property
    def owners(self) -> dict[IPv4Address, str]:
        """Of each address of the lab the link that it belongs to."""
        resources = [node.resource for node in self.nodes.values()]
        return {each.address.ip: each.name for each in resources if isinstance(each, Bridge | Veth)}

    def place_of(self, service: str) -> Place | None:
        """Where a service (or the service of a job) lives; None if it has no network."""
        return self.places.get(self.stack.namespace_of(service))

    def service_of(self, node: str) -> str:
        """The service whose place a service's or job's node has."""
        kind, _, name = node.partition(":")
        return self.stack.jobs[name].of if kind == "job" else name

    def ports(self, service: str) -> list[int]:
        """Every port that the service is said to listen on."""
        return list(declared_ports(self.stack.services[service]))

    def address_for(self, place: Place, caller: Place) -> tuple[Veth, Veth] | None:
        """(the target's link, the caller's link) on a network that both share."""
        for veth in place.veths:
            for own in caller.veths:
                if own.bridge == veth.bridge:
                    return veth, own
        return None

    @cached_property
    def _flows(self) -> dict[tuple[str, int], list[str]]:
        """(namespace, TCP port) → who may connect there, in the order of the stack file."""
        found: dict[tuple[str, int], list[str]] = {}
        for flow in flows_of(self.stack):
            if flow.protocol == TCP:
                found.setdefault((flow.target, flow.port), []).append(flow.source)
        return found

    def allows(self, source: str, service: str, port: int) -> bool:
        """Whether that place, or the host, may connect to the service's port."""
        return source in self._flows.get((self.stack.namespace_of(service), port), ())

    def open_ports(self, service: str) -> list[int]:
        """Its own ports, and those that a flow to it names."""
        named = [
            int(port.removesuffix(f"/{TCP}"))
            for flow in self.stack.flows
            if service in flow.targets
            for port in flow.ports
            if port.endswith(TCP)
        ]
        return list(dict.fromkeys((*self.ports(service), *named)))

    def callers(self, service: str) -> list[Place]:
        """Declared callers of the service, by their places; the host is not among them."""
        home = self.stack.namespace_of(service)
        labels = [
            label
            for port in self.open_ports(service)
            for label in self._flows.get((home, port), ())
            if label in self.places
        ]
        return [self.places[label] for label in dict.fromkeys(labels)]

    @cached_property
    def needs(self) -> dict[str, list[str]]:
        """The direct needs of each node; for services also what their requests pass."""
        found = {name: list(node.needs) for name, node in self.nodes.items()}
        for name in found:
            if name.startswith("service:") and self.passes_rules(name):
                found[name] += [FORWARDING, RULES]
        return found

    def passes_rules(self, node: str) -> bool:
        """Whether requests to the service meet the rules of the host."""
        return self.bridged_rules or bool(self.stack.services[node.partition(":")[2]].ports)

    def way(self, node: str) -> list[str]:
        """The nodes that a walk to this one passes, without what the services it needs pass."""
        kind = node.partition(":")[0]
        if kind == "link":
            return [node]
        if kind not in ("service", "job", "check"):
            return [name for name in self.nodes if name in closure(node, self.needs)]
        found = {node}
        if kind == "check":
            found |= {FORWARDING, RULES}
        elif (place := self.place_of(self.service_of(node))) is not None:
            found |= {"mount:netns", *place.nodes}
            if kind == "service" and self.passes_rules(node):
                found |= {FORWARDING, RULES}
        return [name for name in self.nodes if name in found]

    def gateway(self, veth: Veth) -> IPv4Address:
        """The host's address on that link's network."""
        return self.bridges[veth.bridge].address.ip
