"""Findings, walks and the culprit. Pure: what was seen has been judged already.

A walk is what a request to one node passes, layer by layer. The walks of everything that a
node needs come before its own: where several are broken, the deepest one is the cause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

# From the client's side to the data; the last three are no layers of a request to a service.
LAYERS = (
    "namespace",
    "link",
    "bridge",
    "neighbour",
    "route",
    "sysctl",
    "rules",
    "syn",
    "listener",
    "http",
    "query",
    "job",
    "check",
    "file",
)


class Verdict(StrEnum):
    """What was found about one layer."""

    OK = "ok"
    BROKEN = "broken"
    DRIFT = "drift"  # not as the stack wants it, though a request passes
    SKIPPED = "skipped"  # not asked, since something below is broken


class Finding(Struct, frozen=True):
    """One layer of one node: the verdict, what was seen, and the command that shows the same."""

    layer: str
    node: str
    verdict: Verdict
    evidence: str
    command: str = ""
    details: tuple[str, ...] = ()
    mend: str = ""  # where it takes more than bringing back what the stack wants


class Walk(Struct, frozen=True):
    """The findings on the way to one node, in the order of the layers."""

    node: str
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, node: str, findings: Iterable[Finding]) -> Walk:
        """The findings in order; those of one layer stay as they come."""
        return cls(node, tuple(sorted(findings, key=lambda each: LAYERS.index(each.layer))))

    def first(self, verdict: Verdict) -> Finding | None:
        return next((each for each in self.findings if each.verdict is verdict), None)

    @property
    def is_broken(self) -> bool:
        return self.first(Verdict.BROKEN) is not None


class Diagnosis(Struct, frozen=True):
    """All walks, what a node needs before the node, and the way to the culprit.

    `asked` is empty for the whole platform. `chain` leads from what was asked to the walk that
    holds the culprit; `others` are broken too, each the first of its walk and not the culprit.
    """

    asked: str
    walks: tuple[Walk, ...]
    culprit: Finding | None
    chain: tuple[str, ...]
    others: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        return self.culprit is None

    @property
    def shown_walk(self) -> Walk:
        """The walk to show: the one asked for if the culprit is on it, else a service's that
        leads there."""
        own = next((walk for walk in self.walks if walk.node == self.asked), self.walks[-1])
        if self.culprit is None or self.culprit in own.findings:
            return own
        holding = [walk for walk in self.walks if self.culprit in walk.findings]

        def rank(walk: Walk) -> tuple[bool, bool]:
            return walk.node not in self.chain, not walk.node.startswith("service:")

        return min(holding, key=rank)


# Layers that fail because of what is below them: not worth a line where that is named.
CONSEQUENT = frozenset({"http", "query", "check", "job"})


def conclude(asked: str, walks: Sequence[Walk], needs: Mapping[str, Collection[str]]) -> Diagnosis:
    """The diagnosis of walks that come in the order of needs, the deepest first.

    `needs` are the direct needs of each node, for the chain. What is merely not as wanted is
    the culprit only where nothing is broken.
    """
    found: dict[Finding, str] = {}
    for verdict in (Verdict.BROKEN, Verdict.DRIFT):
        for walk in walks:
            if first := walk.first(verdict):
                found.setdefault(first, walk.node)
    if not found:
        return Diagnosis(asked, tuple(walks), None, (), ())
    culprit, holder = next(iter(found.items()))
    others = [
        each
        for each, node in found.items()
        if each != culprit and not (each.layer in CONSEQUENT and path(node, holder, needs))
    ]
    start = asked or _top(holder, walks, needs)
    chain = path(start, culprit.node, needs) or (*path(start, holder, needs), culprit.node)
    return Diagnosis(asked, tuple(walks), culprit, chain, tuple(others))


def _top(holder: str, walks: Sequence[Walk], needs: Mapping[str, Collection[str]]) -> str:
    """The last of the walks that leads to the holder: where clients come in."""
    leading = [walk.node for walk in walks if path(walk.node, holder, needs)]
    return leading[-1] if leading else holder


def path(start: str, end: str, needs: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """The shortest way along the needs, both ends included; empty if there is none."""
    before: dict[str, str] = {start: ""}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        if node == end:
            way = [node]
            while before[way[-1]]:
                way.append(before[way[-1]])
            return tuple(reversed(way))
        for need in needs.get(node, ()):
            if need not in before:
                before[need] = node
                queue.append(need)
    return ()


def closure(start: str, needs: Mapping[str, Collection[str]]) -> set[str]:
    """The node and everything that it needs, however far."""
    found, frontier = {start}, [start]
    while frontier:
        for need in needs.get(frontier.pop(), ()):
            if need not in found:
                found.add(need)
                frontier.append(need)
    return found
