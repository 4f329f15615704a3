"""A recorded run played again with other durations or fewer slots: list scheduling.

The order of the engine is kept (needs at their stages, the heaviest chain first, a slot held for
work only), and every node takes as long as it took. Played without a change it comes to the
recorded wall time but for hand-overs, which it knows none of.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import UsageError
from orchestrator.events import (
    Action,
    Cause,
    Event,
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
)
from orchestrator.near import did_you_mean, full_and_short
from orchestrator.needs import dependents, weights
from orchestrator.sights.phases import (
    BESIDE,
    OWN,
    READY,
    STARTED,
    AttemptOutcome,
    NodeSpan,
    Phase,
    RunSpan,
    fold,
)

UNITS_NS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
EXPRESSION = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(us|ms|s|%)")
RANK = {STARTED: 1, READY: 2, BESIDE: 2}
KINDS = ("service", "job", "check", "netns", "bridge")  # what a short name means, in this order


class Change(Struct, frozen=True):
    """Another duration for a node's own time, or for one phase of it."""

    node: str
    phase: Phase | None
    sign: str  # `+` and `-` change what was, none replaces it
    amount: float  # ns, or per cent
    is_share: bool

    def apply(self, was_ns: int) -> int:
        """What that many nanoseconds become; never less than none."""
        amount = was_ns * self.amount / 100 if self.is_share else self.amount
        if self.sign:
            amount = was_ns + (amount if self.sign == "+" else -amount)
        return max(0, round(amount))


def parse(text: str, names: Iterable[str]) -> Change:
    """`postgres-db=-300ms`, `service:redis-cache=50%`, `migrate.backoff=0s`, `init=+1s`.

    Raises UsageError.
    """
    word, equals, value = text.partition("=")
    found = EXPRESSION.fullmatch(value)
    if not equals or found is None:
        raise UsageError(
            f"cannot read {text!r}: write NODE=200ms, NODE=-300ms, NODE=+1s or NODE=50%, "
            "and NODE.PHASE for one phase alone"
        )
    short, dot, last = word.rpartition(".")
    phase = Phase(last) if dot and last in {str(each) for each in OWN} else None
    known = set(names)
    if dot and phase is None and not _meant(word, known) and _meant(short, known):
        raise UsageError(
            f"{last} is no phase of {short}'s own time; those are {', '.join(OWN)}; "
            "waits follow from other nodes and --max-workers"
        )
    sign, number, unit = found.groups()
    amount = float(number) * UNITS_NS.get(unit, 1)
    node = resolve(short if phase else word, known)
    return Change(node, phase, sign, amount, is_share=unit == "%")


def resolve(word: str, names: Iterable[str]) -> str:
    """The node that a name means, in full or without its kind. Raises UsageError."""
    known = set(names)
    if found := _meant(word, known):
        return found
    near = did_you_mean(word, full_and_short(sorted(known)))
    raise UsageError(f"unknown node {word}{near}; `orchestrator analyze blame` lists the run's")


def _meant(word: str, known: set[str]) -> str | None:
    candidates = (word, *(f"{kind}:{word}" for kind in KINDS))
    return next((name for name in candidates if name in known), None)


def play(run: RunSpan, changes: Sequence[Change] = (), *, max_workers: int = 0) -> RunSpan:
    """The run as it would have gone; 0 keeps its slots.

    Nodes that did not have their turn in the run (skipped) have none here.
    Raises UsageError if the run did not come to its end or its journal does not know its needs.
    """
    if not run.knows_needs:
        raise UsageError(f"run {run.run} was recorded without its needs; it cannot be played again")
    if run.outcome in (None, Outcome.CANCELLED):
        how = "was interrupted" if run.outcome else "did not come to its end"
        raise UsageError(f"run {run.run} {how}; it cannot be played again")
    tracks = {node.node: _track(node) for node in run.acted_on}
    for change in changes:
        if change.node not in tracks:
            raise UsageError(f"{change.node} did nothing in run {run.run}")
        tracks[change.node] = _changed(tracks[change.node], change)
    return _Stage(run, tracks, max_workers or run.max_workers).play()


class _Piece(Struct, frozen=True):
    """A stretch of a node's own time."""

    phase: Phase
    ns: int
    attempt: int
    undoes: bool

    @property
    def in_slot(self) -> bool:
        return self.phase is Phase.PROVISION and not self.undoes


def _track(node: NodeSpan) -> list[_Piece]:
    """The node's own time in order; waits for slots are left out."""
    return [
        _Piece(each.phase, each.ns, each.attempt, each.undoes)
        for each in node.segments
        if each.phase in OWN
    ]


def _changed(track: list[_Piece], change: Change) -> list[_Piece]:
    """Every piece that the change concerns grows or shrinks in proportion, to the nanosecond."""
    chosen = [index for index, each in enumerate(track) if change.phase in (None, each.phase)]
    if not chosen:
        raise UsageError(f"{change.node} had no {change.phase} in this run")
    was_ns = sum(track[index].ns for index in chosen)
    now_ns = change.apply(was_ns)
    result = list(track)
    if was_ns == 0:
        result[chosen[0]] = replace(track[chosen[0]], ns=now_ns)
        return result
    passed_ns = given_ns = 0
    for index in chosen:
        passed_ns += track[index].ns
        upto_ns = passed_ns * now_ns // was_ns
        result[index] = replace(track[index], ns=upto_ns - given_ns)
        given_ns = upto_ns
    return result


class _Stage:
    """Plays tracks against an agenda; what happens is told as events and folded like any run."""

    def __init__(self, run: RunSpan, tracks: Mapping[str, list[_Piece]], slots: int) -> None:
        self._run, self._tracks, self._free = run, tracks, slots
        everything = {name: run.needs.get(name, {}) for name in run.nodes}
        self._weights = run.weights or weights(everything)
        self._needs = {
            name: {need: stage for need, stage in everything[name].items() if need in tracks}
            for name in run.nodes
            if name in tracks
        }
        self._after = dependents(self._needs)
        self._unmet, self._beside = (
            {
                name: sum((stage == BESIDE) is beside for stage in needs.values())
                for name, needs in self._needs.items()
            }
            for beside in (False, True)
        )
        self._parked: dict[str, int] = {}  # nodes that wait for those, each at which piece
        self._came: dict[str, int] = {}
        self._waiting: list[tuple[int, int, str, int]] = []
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._is_due = False
        self._now_ns = 0
        self._told: list[Record] = []

    def play(self) -> RunSpan:
        run = self._run
        begin = RunStarted(run.command, "", tuple(run.nodes), "", run.needs, self._free)
        self._tell(replace(begin, weights=run.weights))
        for name, unmet in self._unmet.items():
            if unmet == 0:
                self._release(name, "")
        while self._agenda:
            self._now_ns, _, act = heapq.heappop(self._agenda)
            act()
        for node in run.nodes.values():
            if not node.was_queued and node.outcome is not None:
                self._tell(StepFinished(node.node, Action.ENSURE, node.outcome, 0, ""))
        self._tell(RunFinished(run.outcome or Outcome.CHANGED, (), ()))
        return fold(self._told)

    def _tell(self, event: Event) -> None:
        run = self._run
        record = Record(len(self._told), run.run, run.begun_wall_ns, self._now_ns, event)
        self._told.append(record)

    def _later(self, act: Callable[[], None], ns: int = 0) -> None:
        heapq.heappush(self._agenda, (self._now_ns + ns, next(self._order), act))

    def _release(self, name: str, by: str) -> None:
        self._tell(StepQueued(name, 1, by))
        self._go(name, 0)

    def _go(self, name: str, index: int) -> None:
        """Begins the track's piece of that index, or ends the node."""
        if index == len(self._tracks[name]):
            self._finish(name)
            return
        piece = self._tracks[name][index]
        if piece.in_slot:
            if index:
                self._tell(StepQueued(name, piece.attempt, name))
            waiter = (-self._weights[name], next(self._order), name, index)
            heapq.heappush(self._waiting, waiter)
            self._call()
            return
        if piece.phase is Phase.READINESS_WAIT:
            self._tell(StepProvisioned(name, piece.attempt))
            self._reach(name, STARTED)
            if self._beside[name]:
                self._parked[name] = index
                return
        elif piece.phase is Phase.BACKOFF:
            self._tell(StepRetried(name, piece.attempt, piece.ns / 1e9, ""))
        else:
            late = self._run.nodes[name].attempts[-1].outcome is AttemptOutcome.TIMEOUT
            self._tell(StepGivenUp(name, piece.attempt, Cause.TIMEOUT if late else Cause.ERROR))
        self._later(lambda: self._go(name, index + 1), piece.ns)

    def _take(self, name: str, index: int) -> None:
        piece = self._tracks[name][index]
        self._tell(SlotTaken(name, piece.attempt))
        self._later(lambda: self._give_back(name, index), piece.ns)

    def _give_back(self, name: str, index: int) -> None:
        self._free += 1
        self._call()
        self._go(name, index + 1)

    def _call(self) -> None:
        if self._free and self._waiting and not self._is_due:
            self._is_due = True
            self._later(self._give)

    def _give(self) -> None:
        """A slot goes to the heaviest waiter, what was released meanwhile included, as in the
        engine."""
        self._is_due = False
        _, _, heaviest, at = heapq.heappop(self._waiting)
        self._free -= 1
        self._take(heaviest, at)
        self._call()

    def _finish(self, name: str) -> None:
        node = self._run.nodes[name]
        outcome = node.outcome or Outcome.CHANGED
        came = any(stage == READY for _, stage in node.reached)
        # What could not be taken away holds nobody up: only there a failure is reached.
        action = Action.REMOVE if came and outcome is Outcome.FAILED else Action.ENSURE
        self._tell(StepFinished(name, action, outcome, len(node.attempts), ""))
        if came:
            self._reach(name, READY)

    def _reach(self, name: str, stage: str) -> None:
        """Its dependents that waited for this stage have one need less."""
        before, self._came[name] = self._came.get(name, 0), RANK[stage]
        needs = self._needs
        met = [
            each for each in self._after[name] if before < RANK[needs[each][name]] <= RANK[stage]
        ]
        for each in met:
            if needs[each][name] == BESIDE:
                self._later(partial(self._join, each, name))  # it wakes in the next turn
                continue
            self._unmet[each] -= 1
            if self._unmet[each] == 0:
                self._release(each, name)

    def _join(self, name: str, by: str) -> None:
        """One less of what the node was started beside; after the last it is asked."""
        self._beside[name] -= 1
        if self._beside[name] or name not in self._parked:
            return
        index = self._parked.pop(name)
        piece = self._tracks[name][index]
        self._tell(StepJoined(name, piece.attempt, by))
        self._later(lambda: self._go(name, index + 1), piece.ns)
