"""What a replay takes the network from leaves before that: while it can still answer.

Later it could not: it would wait for its clients until its grace is over, and they for it until
their own patience is. Only where clients from beyond the lab would: services try again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.engine.plan import Node, Stage
from orchestrator.errors import OrchestratorError
from orchestrator.events import Outcome
from orchestrator.kernel.policy import Policy
from orchestrator.processes.service import Service
from orchestrator.resource import Observation


class Leaving(Struct, frozen=True):
    """A service that answers what it has begun, and its namespace, where nobody begins anew:
    TCP tries again until the next one is there, instead of being refused by nobody."""

    service: Service
    policy: Policy

    @property
    def name(self) -> str:
        return self.service.name

    async def observe(self) -> Observation:
        return await self.service.observe()

    async def ensure(self) -> Outcome:
        return await self.service.ensure()

    async def is_absent(self) -> bool:
        return await self.service.is_absent()

    async def remove(self) -> Outcome:
        with suppress(OrchestratorError, OSError):  # without its rules it leaves all the same
            await self.policy.shut()
        return await self.service.remove()


def leaving(
    nodes: Mapping[str, Node], rebuilt: Collection[str], published: Collection[str]
) -> dict[str, Node]:
    """Services of namespaces that are to be made anew, if one of them is published, for a run that
    removes them: whoever asks another one, through whatever, before that."""
    names = [
        name
        for name in rebuilt
        if isinstance(nodes[name].resource, Service)
        and any(need.startswith("netns:") and need in rebuilt for need in nodes[name].needs)
    ]
    if not {*names} & {*published}:
        return {}
    found = {}
    for name in names:
        needs = dict.fromkeys(_below(nodes, name) & {*names}, Stage.READY)
        found[name] = replace(nodes[name], needs=needs)
        door = nodes.get(name.replace("service:", "policy:", 1))
        match found[name].resource, door and door.resource:
            case Service() as service, Policy() as policy if name in published:
                found[name] = replace(found[name], resource=Leaving(service, policy))
    return found


def _below(nodes: Mapping[str, Node], name: str) -> set[str]:
    """All that a node needs, and what that needs in turn."""
    found, frontier = set[str](), [name]
    while frontier:
        new = nodes[frontier.pop()].needs.keys() - found
        found |= new
        frontier += new
    return found
