"""What to look at, from the stack alone: hops, their places, and who calls whom. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from orchestrator.app import App
from orchestrator.flows import declared_ports
from orchestrator.kernel.iptables import Rule
from orchestrator.kernel.nat import Nat
from orchestrator.linux import NETNS_DIR
from orchestrator.processes.service import Program, Service
from orchestrator.spec import Stack


class Edge(NamedTuple):
    """Calls from one service to another, by the stack's names."""

    client: str
    server: str


class Hop(Struct, frozen=True):
    """A service. `space` is the stack's name of its namespace, which several may share;
    `ports` are those on which the stack says that it listens."""

    name: str
    space: str
    program: Program | None  # None: it has no process of its own
    uid: int
    ports: frozenset[int] = frozenset()
    published: frozenset[int] = frozenset()


class Link(NamedTuple):
    """The inner end of a veth; its hop is the service that declares the network."""

    name: str
    hop: str


class Plan(Struct, frozen=True):
    """Everything that is looked at. The first hop of a space is at home there."""

    hops: tuple[Hop, ...]
    paths: Mapping[str, Path]  # by space
    addresses: Mapping[bytes, str]  # packed → space
    links: Mapping[str, tuple[Link, ...]]  # by space
    edges: tuple[Edge, ...]
    rules: tuple[Rule, ...]
    mark: str  # of the lab

    def at(self, space: str) -> list[Hop]:
        """The hops that live there."""
        return [hop for hop in self.hops if hop.space == space]

    @property
    def chains(self) -> list[tuple[str, str]]:
        """(table, chain) that have rules of ours."""
        return list(dict.fromkeys((rule.table, rule.chain) for rule in self.rules))

    def label(self, table: str, comment: str) -> str:
        """`nat/publish-8080`: table, and what the rule's comment says after the lab's mark.

        Rules of several networks that are there for the same reason have one label.
        """
        return f"{table}/{comment.removeprefix(f'{self.mark} ')}"


def plan_of(app: App) -> Plan:
    """The plan of a lab. Raises SpecError."""
    stack, lab = app.stack, app.lab
    homes = {name for name in stack.services if stack.home_of(name) == name}
    spaces = [stack.namespace_of(name) for name, each in stack.services.items() if each.networks]
    rules = next(
        (node.resource.wanted for node in app.nodes.values() if isinstance(node.resource, Nat)), ()
    )
    return Plan(
        hops=tuple(
            _hop(app, name) for name in sorted(stack.services, key=lambda name: name not in homes)
        ),
        paths={space: NETNS_DIR / lab.namespace(space) for space in spaces},
        addresses={
            attachment.address.packed: stack.namespace_of(name)
            for name, service in stack.services.items()
            for attachment in service.networks.values()
        },
        links={
            stack.namespace_of(name): tuple(
                Link(stack.interface_of(name, network), name) for network in service.networks
            )
            for name, service in stack.services.items()
            if service.networks
        },
        edges=tuple(dict.fromkeys(edges_of(stack))),
        rules=rules,
        mark=lab.mark,
    )


def _hop(app: App, name: str) -> Hop:
    service = app.stack.services[name]
    node = app.nodes.get(f"service:{name}")
    program = node.resource.program if node and isinstance(node.resource, Service) else None
    return Hop(
        name,
        app.stack.namespace_of(name),
        program,
        program.user.uid if program else 0,
        frozenset(declared_ports(service)),
        frozenset(port.service for port in service.ports),
    )


def edges_of(stack: Stack) -> Iterable[Edge]:
    """A need of a service is an edge; one of a job stands for the service whose job it is."""
    for name, service in stack.services.items():
        for need in service.needs:
            server = stack.jobs[need].of if need in stack.jobs else need
            if server != name:
                yield Edge(name, server)
