"""What a run had to wait for: the chain of releases that led to its end, and everyone's slack.

The chain is the one that happened: from the node that ended last back to the node whose coming
to a stage released it, and so on. Between the releasing event and the released node's own there
is a hand-over (the event loop's turn), so link and hand-over times add up to the run's wall time.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from orchestrator.needs import dependents, topological
from orchestrator.sights.phases import BESIDE, OWN, NodeSpan, Phase, RunSpan, Segment


class Link(Struct, frozen=True):
    """A node on the chain, from its release until it released the next one (or ended).

    `stage` is what it released the next one by, empty for the last. `hand_over_ns` lies before
    `start_ns`: since the release by the link before, or since the run's start.
    """

    node: str
    start_ns: int
    end_ns: int
    stage: str
    hand_over_ns: int
    segments: tuple[Segment, ...]

    @property
    def ns(self) -> int:
        return self.end_ns - self.start_ns

    def in_phase(self, phase: Phase) -> int:
        return sum(each.ns for each in self.segments if each.phase is phase)

    @property
    def own_ns(self) -> int:
        return sum(each.ns for each in self.segments if each.phase in OWN)


class Chain(Struct, frozen=True):
    """The critical path, first link first. `tail_ns`: from the last node's end to the run's."""

    links: tuple[Link, ...]
    tail_ns: int

    @property
    def nodes(self) -> frozenset[str]:
        return frozenset(link.node for link in self.links)

    @property
    def own_ns(self) -> int:
        """Own work along the chain: the floor, below which no waiting less could bring the run."""
        return sum(link.own_ns for link in self.links)

    @property
    def slot_wait_ns(self) -> int:
        return sum(link.in_phase(Phase.SLOT_WAIT) for link in self.links)

    @property
    def start_ns(self) -> int:
        """From the run's start until the first link."""
        return self.links[0].hand_over_ns if self.links else 0

    @property
    def hand_over_ns(self) -> int:
        """The run's start is the first of them."""
        return sum(link.hand_over_ns for link in self.links)

    @property
    def rest_ns(self) -> int:
        """What is no node's time: hand-overs and the run's end."""
        return self.hand_over_ns + self.tail_ns

    @property
    def total_ns(self) -> int:
        """Equal to the run's wall time."""
        return sum(link.ns for link in self.links) + self.rest_ns


def critical_chain(run: RunSpan) -> Chain:
    """The chain of one run; without links if no node had its turn."""
    steps = list(_backwards(run))
    links = []
    for index, (node, end_ns, stage) in enumerate(steps):
        start_ns, _ = node.release(end_ns)
        before_ns = steps[index + 1][1] if index + 1 < len(steps) else 0
        links.append(
            Link(
                node=node.node,
                start_ns=start_ns,
                end_ns=end_ns,
                stage=stage,
                hand_over_ns=start_ns - before_ns,
                segments=tuple(_clipped(node, start_ns, end_ns)),
            )
        )
    tail_ns = run.wall_ns - (steps[0][1] if steps else 0)
    return Chain(tuple(reversed(links)), tail_ns)


def _backwards(run: RunSpan) -> Iterator[tuple[NodeSpan, int, str]]:
    """(node, until when it mattered, the stage that it released the next by), last one first."""
    # Of several that are still open, the one that was released first has kept the run longest.
    node = max(run.acted_on, key=lambda each: (each.end_ns, -each.queued_ns), default=None)
    end_ns, stage = (node.end_ns, "") if node else (0, "")
    seen: set[str] = set()
    while node is not None and node.node not in seen:
        seen.add(node.node)
        yield node, end_ns, stage
        start_ns, by = node.release(end_ns)
        releaser = run.nodes.get(by)
        if releaser is None:
            return
        wanted = run.needs.get(node.node, {}).get(releaser.node, "")
        reached = [each for each in releaser.reached if each[0] <= start_ns]
        if not reached:
            return
        # It came there when it first came that far; a journal of before does not say how far.
        end_ns, stage = next((each for each in reached if each[1] == wanted), reached[-1])
        node = releaser


def _clipped(node: NodeSpan, start_ns: int, end_ns: int) -> Iterator[Segment]:
    """The node's segments from its release until then."""
    for each in node.segments:
        if each.start_ns < start_ns or each.phase is Phase.DEPENDENCY_WAIT:
            continue
        if each.end_ns <= end_ns:
            yield each
        elif each.start_ns < end_ns:
            yield Segment(each.phase, each.start_ns, end_ns, each.attempt)


def slack(run: RunSpan) -> dict[str, int]:
    """For each node that had its turn: how many ns longer it could have taken, in whatever
    phase, without the last node's ending later. Slots are taken as they were; a node that waited
    for what it was started beside would have ended later by all that it had begun later.

    Empty if the journal lacks the run's needs or its end.
    """
    if not run.knows_needs or run.outcome is None:
        return {}
    ran = {each.node: each for each in run.acted_on}
    needs = {
        name: {n: stage for n, stage in run.needs.get(name, {}).items() if n in ran} for name in ran
    }
    after = dependents(needs)

    def released_ns(name: str, by: str) -> int:
        """When the node was released by that need and those of its kind."""
        beside = needs[name][by] == BESIDE
        if beside and not ran[name].joined_by:
            return ran[name].asked_ns  # they were all there in time
        kind = (need for need, stage in needs[name].items() if (stage == BESIDE) is beside)
        return max(_reached(ran[need], needs[name][need]) for need in kind)

    end_ns = max((node.end_ns for node in ran.values()), default=0)
    found: dict[str, int] = {}
    for name in reversed(topological(needs)):
        bounds = [
            released_ns(each, name) - _reached(ran[name], needs[each][name]) + found[each]
            for each in after[name]
        ]
        found[name] = min([end_ns - ran[name].end_ns, *bounds])
    return found


def _reached(node: NodeSpan, stage: str) -> int:
    at_ns = node.first_reached(stage)
    return node.end_ns if at_ns is None else at_ns
