"""Rebuilds one part of a running lab: its blast radius before, the proof after.

The caller holds the lab (lock.py) from before the plan is made until the end: a plan that was
made while others worked on the lab would take away what they have just brought up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator import linux
from orchestrator.errors import UsageError
from orchestrator.events import Action, RunStarted
from orchestrator.identity import Seen, by_places, cut_by, see, through
from orchestrator.kernel.connections import Connection
from orchestrator.kinds import kind_of
from orchestrator.leaving import leaving
from orchestrator.onelook import one_look
from orchestrator.replay import (
    Proof,
    Radius,
    foundations,
    outer_needs,
    prove,
    radius,
    subgraph,
    targets,
)
from orchestrator.resource import Observation, State
from orchestrator.sights import journal

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.engine.bus import Sight
    from orchestrator.engine.executor import Result
    from orchestrator.engine.plan import Node

STANDING = ("netns", "bridge", "veth", "service")  # kinds of nodes that only `up` makes


class Replay(Struct, frozen=True):
    """What a replay would touch, the connections that would break by it, and all as it was."""

    radius: Radius
    broken: set[Connection]
    before: Seen

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
    wanted = frozenset[str]()
    if not word:  # to find what hangs takes more than one look
        broken = await app.broken(nodes)
        _refuse_if_down(app, broken)
        wanted = frozenset(broken) | frozenset(await app.hung()) | await lost_links(nodes)
    with one_look():
        if word:
            wanted = targets(nodes, word, await _whole(app, foundations(nodes, word)))
        found = radius(nodes, wanted, cascade=cascade)
        needs = outer_needs(nodes, found.touched)
        missing = sorted(needs - await _whole(app, needs))
        before = see(nodes, app.compiler.netlink)
    if not with_deps:
        found = replace(found, felt=frozenset())
    if missing:
        _refuse_if_down(app, await app.broken(nodes))
        raise UsageError(
            f"cannot replay {word}: what it needs is not there: {', '.join(missing)}\n"
            "  mend: `orchestrator replay` without a name mends everything that is broken"
        )
    return Replay(found, cut_by(before.connections, nodes, found.touched), before)


def _refuse_if_down(app: App, broken: Mapping[str, Observation]) -> None:
    """Raises UsageError if nothing is there, and nobody wants it to be. What a reboot took away
    was up for the journal, and is broken."""
    standing = [name for name in app.nodes if kind_of(name) in STANDING]
    if any(name not in broken or broken[name].state is not State.ABSENT for name in standing):
        return
    events = [record.event for record in journal.read(app.lab.journal).records]
    commands = [event.command for event in events if isinstance(event, RunStarted)]
    if not commands or commands[-1] == "down":
        raise UsageError("nothing is up that could be rebuilt\n  mend: `orchestrator up`")


async def lost_links(nodes: Mapping[str, Node]) -> frozenset[str]:
    """Links on the host that are not there, or point elsewhere. Whoever removes one may mean it,
    so that nobody but a person who asks for it brings it back."""
    links = [name for name in nodes if kind_of(name) == "link"]
    seen = {name: (await nodes[name].resource.observe()).state for name in links}
    return frozenset(name for name, state in seen.items() if state in (State.ABSENT, State.PARTIAL))


async def _whole(app: App, names: Collection[str]) -> frozenset[str]:
    """Those of these nodes that are as wanted. Nobody else is looked at: it takes its time."""
    return frozenset(names) - frozenset(await app.broken(names))


async def rebuild(
    app: App, plan: Replay, sights: list[Sight], *, complain: Callable[[str], None]
) -> tuple[Result, Proof]:
    """Rebuilds what the plan says, and proves that nothing else was disturbed.

    The caller holds the lab since before the plan was made: else it may be out of date.
    """
    app.compiler.secrets.bring_back()
    app.compiler.secrets.refuse_lost(app.stack.secrets)
    nodes, touched, before = app.nodes, plan.radius.touched, plan.before
    kept = before.connections - cut_by(before.connections, nodes, touched)
    acted = subgraph(nodes, touched | plan.radius.felt)
    published = {f"service:{name}" for name, each in app.stack.services.items() if each.ports}
    if parting := leaving(nodes, plan.radius.rebuilt, published):
        await app.run("stop", parting, Action.REMOVE, sights, complain)
    result = await app.run(
        "replay", acted, Action.ENSURE, sights, complain, rebuild=plan.radius.rebuilt
    )
    outside = frozenset(nodes) - touched
    expected = {name: each for name, each in before.identities.items() if name in outside}
    with linux.ahead():  # of what has just been started, and is not yet at rest
        after = see(nodes, app.compiler.netlink, expected)
    fragile = through(kept, nodes, touched)
    reset = {name for name, count in after.resets.items() if count != before.resets.get(name)}
    proof = prove(
        before.identities,
        after.identities,
        outside,
        kept=kept,
        fragile=fragile,
        now=after.connections,
        reset=reset,
    )
    return result, proof
