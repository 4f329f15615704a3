"""One run, node by node, cut into phases: a pure fold over the run's records.

A node's span reaches from the run's start to the node's end. Its segments follow one another
without a gap, so the phases add up to the span exactly. All times are whole nanoseconds from
the run's start, as the journal has them; nothing is rounded and nothing is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct, field

from orchestrator.events import (
    Action,
    Cause,
    Event,
    GateChecked,
    Needs,
    Outcome,
    Record,
    RunFinished,
    RunStarted,
    SlotTaken,
    StepFinished,
    StepGivenUp,
    StepJoined,
    StepProvisioned,
    StepQueued,
    StepRetried,
    StepStarted,
    Weights,
)

STARTED, READY, BESIDE = "started", "ready", "beside"  # stages, as in `RunStarted.needs`


class Phase(StrEnum):
    """What a node's time went to."""

    # From the run's start until it could begin; and until what it was started beside was ready.
    DEPENDENCY_WAIT = "dependency_wait"
    SLOT_WAIT = "slot_wait"
    PROVISION = "provision"  # looking, making or taking away; undoing a failed attempt too
    BACKOFF = "backoff"  # between two attempts
    READINESS_WAIT = "readiness_wait"


OWN = (Phase.PROVISION, Phase.BACKOFF, Phase.READINESS_WAIT)  # a node's own time


class AttemptOutcome(StrEnum):
    """How one attempt at a node ended."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    OPEN = "open"  # its end is not in the journal: killed, or still under way


class Segment(Struct, frozen=True):
    """A stretch of one phase. `attempt` is 0 before the first; a backoff is of the attempt
    that failed. `undoes`: provision that takes away what the last attempt left half-built.
    `is_open`: its end is where the journal ends."""

    phase: Phase
    start_ns: int
    end_ns: int
    attempt: int
    undoes: bool = False
    is_open: bool = False

    @property
    def ns(self) -> int:
        return self.end_ns - self.start_ns


class Attempt(Struct, frozen=True):
    """One try at a node; `reason` says why it failed."""

    number: int
    outcome: AttemptOutcome
    reason: str = ""


class NodeSpan(Struct, frozen=True):
    """One node in one run. `outcome` is None where the journal has no end of it."""

    node: str
    released_by: str  # the need that was met last; empty if it had to wait for none
    joined_by: str  # likewise of those that it was started beside, if it had to wait for them
    outcome: Outcome | None
    segments: tuple[Segment, ...]
    attempts: tuple[Attempt, ...]
    reached: tuple[tuple[int, str], ...]  # when it came to which stage; a retry comes again
    probes: Mapping[tuple[str, bool], int]  # (probe, passed) → different answers told

    @property
    def was_queued(self) -> bool:
        """Whether its needs were met in this run, so that it was acted on or had its turn."""
        return bool(self.attempts)

    @property
    def queued_ns(self) -> int:
        """When the last need was met that it had to wait for to begin: its first segment's end."""
        return self.segments[0].end_ns

    def release(self, end_ns: int) -> tuple[int, str]:
        """When and by whom it was last released before that time: to begin, or to be asked
        whether it is ready."""
        joined = (each.end_ns for each in self.segments[1:] if each.phase is Phase.DEPENDENCY_WAIT)
        joined_ns = next(joined, end_ns + 1)
        return (
            (joined_ns, self.joined_by)
            if joined_ns <= end_ns
            else (
                self.queued_ns,
                self.released_by,
            )
        )

    @property
    def asked_ns(self) -> int:
        """When it was first asked whether it is ready; its end, if it never was."""
        asked = (each.start_ns for each in self.segments if each.phase is Phase.READINESS_WAIT)
        return next(asked, self.end_ns)

    @property
    def end_ns(self) -> int:
        """Also its span, since spans begin with the run."""
        return self.segments[-1].end_ns

    def in_phase(self, phase: Phase) -> int:
        """Nanoseconds, all attempts together."""
        return sum(each.ns for each in self.segments if each.phase is phase)

    @property
    def own_ns(self) -> int:
        """Without what it waited for others: needs and slots."""
        return sum(each.ns for each in self.segments if each.phase in OWN)

    def first_reached(self, stage: str) -> int | None:
        """When it had come at least that far."""
        found = (at_ns for at_ns, each in self.reached if stage == STARTED or each == READY)
        return next(found, None)


class RunSpan(Struct, frozen=True):
    """One run. `outcome` is None if it was killed or is under way; `wall_ns` then reaches to
    its last record. `needs` is empty and `max_workers` 0 in journals of before."""

    run: str
    command: str
    begun_wall_ns: int  # since the epoch
    wall_ns: int
    outcome: Outcome | None
    nodes: Mapping[str, NodeSpan]
    needs: Needs
    max_workers: int
    weights: Weights

    @property
    def knows_needs(self) -> bool:
        return self.max_workers > 0

    @property
    def acted_on(self) -> list[NodeSpan]:
        """Nodes that had their turn; not those that were skipped or never reached."""
        return [each for each in self.nodes.values() if each.was_queued]


class _Node(Struct):
    """A node while its events are read."""

    phase: Phase | None = Phase.DEPENDENCY_WAIT  # None: it has ended
    since_ns: int = 0
    attempt: int = 0
    undoes: bool = False
    released_by: str = ""
    joined_by: str = ""
    outcome: Outcome | None = None
    segments: list[Segment] = field(default_factory=list)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    reached: list[tuple[int, str]] = field(default_factory=list)
    probes: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def enter(self, phase: Phase | None, at_ns: int, *, is_open: bool = False) -> None:
        if self.phase is not None:
            past = Segment(self.phase, self.since_ns, at_ns, self.attempt, self.undoes, is_open)
            self.segments.append(past)
        self.phase, self.since_ns = phase, at_ns

    def begin(self, attempt: int) -> None:
        self.attempt = attempt
        self.attempts[attempt] = Attempt(attempt, AttemptOutcome.OPEN)

    def settle(self, outcome: AttemptOutcome, reason: str = "") -> None:
        """The attempt's outcome; the first word on it counts, a later one may say why."""
        known = self.attempts.get(self.attempt)
        if known is None:
            return
        if known.outcome is not AttemptOutcome.OPEN:
            outcome, reason = known.outcome, known.reason or reason
        self.attempts[self.attempt] = Attempt(self.attempt, outcome, reason)

    def tell(self, event: Event, at_ns: int) -> None:
        """One more event of this node; what says nothing of its phases is ignored."""
        match event:
            case StepQueued(attempt=attempt, released_by=by):
                self.enter(Phase.SLOT_WAIT, at_ns)
                if attempt == 1:
                    self.released_by = by
                self.begin(attempt)
            case SlotTaken():
                self.enter(Phase.PROVISION, at_ns)
            case StepStarted() if self.phase is Phase.SLOT_WAIT:  # a journal of before
                self.enter(Phase.PROVISION, at_ns)
            case StepProvisioned():
                self.enter(Phase.READINESS_WAIT, at_ns)
                self.reached.append((at_ns, STARTED))
            case StepJoined(released_by=by):
                self.phase, self.joined_by = Phase.DEPENDENCY_WAIT, by
                self.enter(Phase.READINESS_WAIT, at_ns)
            case GateChecked(probe=probe, passed=passed):
                self.probes[probe, passed] += 1
            case StepRetried(reason=reason):
                self.enter(Phase.BACKOFF, at_ns)
                self.settle(AttemptOutcome.ERROR, reason)
            case StepGivenUp(cause=cause):
                self.enter(Phase.PROVISION, at_ns)
                self.undoes = True
                self.settle(_OUTCOMES[cause])
            case StepFinished(action=action, outcome=outcome, reason=reason):
                self.enter(None, at_ns)
                self.outcome = outcome
                self.settle(_ENDINGS.get(outcome, AttemptOutcome.OK), reason)
                done = outcome in (Outcome.CHANGED, Outcome.UNCHANGED)
                if done or (action is Action.REMOVE and outcome is Outcome.FAILED):
                    self.reached.append((at_ns, READY))
            case _:
                pass

    def span(self, name: str, end_ns: int) -> NodeSpan:
        self.enter(None, end_ns, is_open=True)
        return NodeSpan(
            name,
            self.released_by,
            self.joined_by,
            self.outcome,
            tuple(self.segments),
            tuple(self.attempts.values()),
            tuple(self.reached),
            dict(self.probes),
        )


_OUTCOMES = {
    Cause.ERROR: AttemptOutcome.ERROR,
    Cause.TIMEOUT: AttemptOutcome.TIMEOUT,
    Cause.CANCELLED: AttemptOutcome.CANCELLED,
}
_ENDINGS = {
    Outcome.FAILED: AttemptOutcome.ERROR,
    Outcome.CANCELLED: AttemptOutcome.CANCELLED,
}


def fold(records: Iterable[Record]) -> RunSpan:
    """The phases of one run. Raises ValueError if the records do not begin with a run."""
    stream = iter(records)
    head = next(stream, None)
    if head is None or not isinstance(head.event, RunStarted):
        raise ValueError("a run begins with RunStarted")
    begun_ns, end_ns, outcome = head.mono_ns, 0, None
    nodes = {name: _Node() for name in head.event.nodes}
    for record in stream:
        end_ns = record.mono_ns - begun_ns
        if isinstance(record.event, RunFinished):
            outcome = record.event.outcome
            continue
        name = getattr(record.event, "node", None)
        if name in nodes:
            nodes[name].tell(record.event, end_ns)
    return RunSpan(
        run=head.run,
        command=head.event.command,
        begun_wall_ns=head.wall_ns,
        wall_ns=end_ns,
        outcome=outcome,
        nodes={name: node.span(name, end_ns) for name, node in nodes.items()},
        needs=head.event.needs,
        max_workers=head.event.max_workers,
        weights=head.event.weights,
    )
