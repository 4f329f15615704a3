"""Two runs side by side, node by node and phase by phase."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.sights.phases import OWN, NodeSpan, Phase, RunSpan


class Difference(Struct, frozen=True):
    """One node in two runs, in ns; None in a run that did not have it, or gave it no turn."""

    node: str
    before: Mapping[Phase, int] | None
    after: Mapping[Phase, int] | None

    def change_ns(self, phase: Phase) -> int:
        """What is missing counts as nothing."""
        return (self.after or {}).get(phase, 0) - (self.before or {}).get(phase, 0)

    @property
    def own_ns(self) -> int:
        """The change of the node's own time."""
        return sum(self.change_ns(phase) for phase in OWN)

    @property
    def size_ns(self) -> int:
        """How much changed in it, whichever way: longer here and shorter there do not cancel.
        Waiting for needs is left out: it is the change of somebody else."""
        return sum(abs(self.change_ns(each)) for each in Phase if each is not Phase.DEPENDENCY_WAIT)


def compare(before: RunSpan, after: RunSpan) -> list[Difference]:
    """Every node of either run, the largest change first."""
    found = [
        Difference(name, _phases(before.nodes.get(name)), _phases(after.nodes.get(name)))
        for name in dict.fromkeys([*before.nodes, *after.nodes])
    ]
    return sorted(found, key=lambda each: -each.size_ns)


def _phases(node: NodeSpan | None) -> dict[Phase, int] | None:
    if node is None or not node.was_queued:
        return None
    return {phase: node.in_phase(phase) for phase in Phase}
