"""Who is where, who calls whom, and what stands between: read off the graph. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path

from orchestrator.diagnosis.findings import closure
from orchestrator.engine.plan import Node
from orchestrator.kernel.bridge import Bridge
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.nat import Nat
from orchestrator.kernel.veth import Veth
from orchestrator.spec import Stack

FORWARDING, RULES = "sysctl:ip_forward", "nat:rules"


@dataclass(frozen=True, slots=True)
class Place:
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
        return [self.namespace.name, *(veth.name for veth in self.veths), *bridges]


@dataclass(frozen=True)
class Site:
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

    def place_of(self, service: str) -> Place | None:
        """Where a service (or the service of a job) lives; None if it has no network."""
        return self.places.get(self.stack.namespace_of(service))

    def service_of(self, node: str) -> str:
        """The service whose place a service's or job's node has."""
        kind, _, name = node.partition(":")
        return self.stack.jobs[name].of if kind == "job" else name

    def ports(self, service: str) -> list[int]:
        """Every port that the service is said to listen on."""
        spec = self.stack.services[service]
        ready = spec.readiness
        found = [spec.listen.port] if spec.listen else []
        found += [ready.tcp] if ready.tcp else []
        probes = (ready.http, ready.postgres, ready.redis)
        found += [probe.port for probe in probes if probe]
        found += [port.service for port in spec.ports]
        return list(dict.fromkeys(found))

    def address_for(self, place: Place, caller: Place) -> tuple[Veth, Veth] | None:
        """(the target's link, the caller's link) on a network that both share."""
        for veth in place.veths:
            for own in caller.veths:
                if own.bridge == veth.bridge:
                    return veth, own
        return None

    @cached_property
    def _callers(self) -> dict[str, list[str]]:
        """Service → places of those that are declared to need it, by themselves or its jobs."""
        found: dict[str, list[str]] = {name: [] for name in self.stack.services}
        everything = {**self.stack.services, **self.stack.jobs}
        for name, spec in everything.items():
            own = self.stack.jobs[name].of if name in self.stack.jobs else name
            home = self.stack.namespace_of(own)
            for need in spec.needs:
                called = self.stack.jobs[need].of if need in self.stack.jobs else need
                if home != self.stack.namespace_of(called) and home not in found[called]:
                    found[called].append(home)
        return found

    def callers(self, service: str) -> list[Place]:
        """Declared callers of the service, by their places; the host is not among them."""
        return [self.places[home] for home in self._callers[service] if home in self.places]

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
