"""Replay: which nodes a rebuild touches, who feels it, and the proof that nobody else did."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import UsageError
from orchestrator.kinds import kind_of
from orchestrator.needs import topological
from orchestrator.terminal import counted

if TYPE_CHECKING:  # dear to load for `replay`, which asks the supervisor
    from orchestrator.engine.plan import Node
    from orchestrator.kernel.connections import Connection

# What a rebuilt need does to those that stand on it, by kinds. The rest only feels it.
REBUILT_WITH = {
    ("netns", "veth"),
    ("netns", "policy"),
    ("netns", "service"),
    ("mount", "netns"),
}
MENDED_WITH = {("bridge", "veth")}

# Foundations stay when their layer is replayed and they are whole: taking a namespace away
# would end everything that lives in it. Named by themselves they are rebuilt all the same.
KEPT_IN_LAYER = frozenset({"netns", "mount"})


class Radius(Struct, frozen=True):
    """What a replay may touch. Everything else must be the same afterwards."""

    rebuilt: frozenset[str]  # taken away and made anew
    mended: frozenset[str]  # brought back to what is wanted, e.g. attached again
    felt: frozenset[str]  # left alone; their gates are asked again

    @property
    def touched(self) -> frozenset[str]:
        return self.rebuilt | self.mended

    @property
    def everything(self) -> frozenset[str]:
        """Touched or not: the targets and all that stands on them."""
        return self.touched | self.felt


def foundations(nodes: Mapping[str, Node], word: str) -> frozenset[str]:
    """If the word means a layer, its nodes that are targets only where they are not whole."""
    return frozenset(
        name
        for name, node in nodes.items()
        if node.layer == word and kind_of(name) in KEPT_IN_LAYER
    )


def targets(nodes: Mapping[str, Node], word: str, whole: Collection[str]) -> frozenset[str]:
    """The nodes that a word means: a layer, a node, or a service or job by its short name.

    `whole` are its foundations that are as wanted. Raises UsageError.
    """
    in_layer = [name for name, node in nodes.items() if node.layer == word]
    if in_layer:
        return frozenset(
            name
            for name in in_layer
            if kind_of(name) not in (*KEPT_IN_LAYER, "check", "link")
            or (kind_of(name) in KEPT_IN_LAYER and name not in whole)
        )
    for name in (word, f"service:{word}", f"job:{word}", f"bridge:{word}"):
        if name in nodes:
            return frozenset({name})
    from orchestrator.near import did_you_mean, full_and_short

    layers = dict.fromkeys(node.layer for node in nodes.values())
    near = did_you_mean(word, [*layers, *full_and_short(nodes)])
    raise UsageError(f"there is no layer or node {word}{near}; layers: {', '.join(layers)}")


def radius(nodes: Mapping[str, Node], wanted: Collection[str], *, cascade: bool) -> Radius:
    """From the targets along the needs to everything that stands on them."""
    rebuilt, mended, felt = set(wanted), set[str](), set[str]()
    dependents: dict[str, list[str]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        for need in node.needs:
            dependents[need].append(name)
    frontier = list(wanted)
    seen = set(wanted)
    while frontier:
        name = frontier.pop()
        for dependent in dependents[name]:
            pair = (kind_of(name), kind_of(dependent))
            is_check = kind_of(dependent) == "check"
            if name in rebuilt and (pair in REBUILT_WITH or (cascade and not is_check)):
                changed = dependent not in rebuilt
                rebuilt.add(dependent)
            elif name in rebuilt and pair in MENDED_WITH:
                changed = dependent not in mended
                mended.add(dependent)
            else:
                changed = dependent not in felt
                felt.add(dependent)
            if changed or dependent not in seen:
                seen.add(dependent)
                frontier.append(dependent)
    return Radius(
        frozenset(rebuilt), frozenset(mended - rebuilt), frozenset(felt - rebuilt - mended)
    )


def culprits(
    nodes: Mapping[str, Node], silent: Collection[str], whole: Collection[str]
) -> frozenset[str]:
    """Of the silent nodes those whose needs, all the way down, are whole and not silent."""
    sick: set[str] = set()
    found = []
    for name in topological({name: dict(node.needs) for name, node in nodes.items()}):
        if any(need in sick for need in nodes[name].needs):
            sick.add(name)
        elif name in silent or name not in whole:
            sick.add(name)
            if name in silent:
                found.append(name)
    return frozenset(found)


def subgraph(nodes: Mapping[str, Node], names: Collection[str]) -> dict[str, Node]:
    """The nodes of those names, with the needs among them."""
    return {
        name: replace(node, needs={n: s for n, s in node.needs.items() if n in names})
        for name, node in nodes.items()
        if name in names
    }


def outer_needs(nodes: Mapping[str, Node], names: Collection[str]) -> frozenset[str]:
    """What these need and do not hold themselves: where it is not there, a replay could only
    fail on it."""
    return frozenset(need for name in names for need in nodes[name].needs if need not in names)


Identity = tuple[str | int, ...]


class Proof(Struct, frozen=True):
    """What is the same after a replay as before, outside of its radius."""

    nodes: int
    connections: int
    disturbed: tuple[str, ...]

    def text(self) -> str:
        same = (
            f"{counted(self.nodes, 'node')} outside: same namespace, index, pid and start time; "
            f"{counted(self.connections, 'connection')} between them alive"
        )
        if not self.disturbed:
            return f"0 disturbed: {same}"
        return f"{len(self.disturbed)} disturbed: " + "; ".join(self.disturbed)


def prove(
    before: Mapping[str, Identity],
    after: Mapping[str, Identity],
    outside: Collection[str],
    *,
    kept: Collection[Connection],
    fragile: Collection[Connection],
    now: Collection[Connection],
    reset: Collection[str],
) -> Proof:
    """Compares identities of the nodes outside, and connections that no touched process has.

    `fragile` ones of `kept` go over a touched link: alive they count, closed by their own
    programs meanwhile they are no disturbance of ours. `reset` are the namespaces in which
    connections broke off: elsewhere those that are gone were closed by their programs, as a
    pool does with what it has too much of.
    """
    disturbed = [
        f"{name} was {before[name]}, is {after.get(name)}"
        for name in sorted(before)
        if name in outside and before[name] != after.get(name)
    ]
    lost = [each for each in kept if each not in now]
    disturbed += [
        f"connection {each.namespace} {each.local}:{each.local_port} → "
        f"{each.remote}:{each.remote_port} is gone"
        for each in sorted(lost)
        if each not in fragile and each.namespace in reset
    ]
    nodes = sum(name in outside for name in before)
    alive = {each.ends for each in kept if each in now}
    return Proof(nodes, len(alive), tuple(disturbed))
