"""Rebuilds one part of a running lab: its blast radius before, the proof after.

The caller holds the lab (lock.py) from before the plan is made until the end: a plan that was
made while others worked on the lab would take away what they have just brought up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UsageError
from orchestrator.events import Action
from orchestrator.identity import by_places, cut_by, identities, inner_connections, spaces, through
from orchestrator.kernel.connections import Connection, resets
from orchestrator.replay import (
    Proof,
    Radius,
    missing_needs,
    prove,
    radius,
    subgraph,
    targets,
)

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.engine.bus import Sight
    from orchestrator.engine.executor import Result


@dataclass(frozen=True)
class Replay:
    """What a replay would touch, and the connections that would break by it."""

    radius: Radius
    broken: set[Connection]

    def ordered(self, nodes: Iterable[str]) -> dict[str, list[str]]:
        """Rebuilt, mended and felt nodes, in the given order."""
        near = self.radius
        groups = {"rebuilt": near.rebuilt, "mended": near.mended, "felt": near.felt}
        return {key: [name for name in nodes if name in names] for key, names in groups.items()}

    def document(self, what: str, nodes: Iterable[str]) -> dict[str, Any]:
        """As JSON has it."""
        breaking = dict(by_places(self.broken))
        return {"replay": what, **self.ordered(nodes), "connections_that_break": breaking}


def replayed(result: Result, proof: Proof, seconds: float) -> dict[str, Any]:
    """A replay's end, as JSON has it."""
    return {
        "outcome": result.outcome,
        "failed": list(result.failed),
        "seconds": round(seconds, 3),
        "nodes_outside": proof.nodes,
        "connections_alive": proof.connections,
        "disturbed": proof.disturbed,
    }


async def blast_radius(app: App, word: str, *, cascade: bool, with_deps: bool) -> Replay:
    """What `replay WORD` would touch; without a word, what is broken. Raises UsageError."""
    nodes = app.nodes
    broken = frozenset(await app.broken(nodes))
    whole = frozenset(nodes) - broken
    wanted = targets(nodes, word, whole) if word else broken | frozenset(await app.hung())
    found = radius(nodes, wanted, cascade=cascade)
    if not with_deps:
        found = replace(found, felt=frozenset())
    if missing := missing_needs(nodes, found.touched, whole):
        raise UsageError(
            f"cannot replay {word}: what it needs is not there: {', '.join(missing)}\n"
            "  mend: `orchestrator replay` without a name mends everything that is broken"
        )
    connections = await inner_connections(nodes)
    return Replay(found, cut_by(connections, nodes, found.touched))


async def rebuild(
    app: App, plan: Replay, sights: list[Sight], *, complain: Callable[[str], None]
) -> tuple[Result, Proof]:
    """Rebuilds what the plan says, and proves that nothing else was disturbed.

    The caller holds the lab since before the plan was made: else it may be out of date.
    """
    nodes, touched = app.nodes, plan.radius.touched
    before = identities(nodes, app.compiler.netlink)
    connections, resets_before = await inner_connections(nodes), await resets(spaces(nodes))
    kept = connections - cut_by(connections, nodes, touched)
    acted = subgraph(nodes, touched | plan.radius.felt)
    result = await app.run(
        "replay", acted, Action.ENSURE, sights, complain, rebuild=plan.radius.rebuilt
    )
    after = identities(nodes, app.compiler.netlink)
    now, resets_after = await inner_connections(nodes), await resets(spaces(nodes))
    outside = frozenset(nodes) - touched
    fragile = through(kept, nodes, touched)
    reset = {name for name, count in resets_after.items() if count != resets_before.get(name)}
    proof = prove(before, after, outside, kept=kept, fragile=fragile, now=now, reset=reset)
    return result, proof
