"""Health: which services hang, told apart from those that only have much to do.

Stopped by a signal: hung, as soon as two looks in a row have seen it. Otherwise it takes a
question that stays unanswered, and then what counts is what the threads did meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.engine.plan import Node
from orchestrator.linux import in_thread
from orchestrator.processes import liveness, vitals
from orchestrator.processes.gate import ServiceGate
from orchestrator.processes.liveness import Question
from orchestrator.processes.members import Members
from orchestrator.processes.service import Service
from orchestrator.replay import culprits

STARVED_SILENCE_S = 0.3  # it has no descriptor left, and none came free
IDLE_SILENCE_S = 2.0  # no answer and no thread of it ran: nothing will come
BUSY_SILENCE_S = 10.0  # it works, but not for whoever asks
LOOK_PAUSE_S = 0.05  # between questions to a service that refuses at once
HUNG_GRACE_S = 1.0
STOPPED = "a signal has stopped it"


def hurried(node: Node) -> Node:
    """The node of a hung service: what did not answer is not waited for as long to leave."""
    service = node.resource
    if not isinstance(service, Service):
        return node
    return replace(node, resource=replace(service, grace_s=min(service.grace_s, HUNG_GRACE_S)))


@dataclass(slots=True)
class Silence:
    """A service that does not answer: since when, and when it last did anything at all.

    `starved_s` is since when it has been out of descriptors with the same ones open.
    """

    since_s: float
    moved_s: float
    starved_s: float | None = None
    open_files: Mapping[int, vitals.Descriptors] = field(default_factory=dict)

    def note(self, open_files: Mapping[int, vitals.Descriptors], now_s: float) -> None:
        """What its processes that have no descriptor left have open now."""
        if not open_files:
            self.starved_s = None
        elif self.starved_s is None or open_files != self.open_files:
            self.starved_s = now_s
        self.open_files = open_files


def verdict(silence: Silence, now_s: float) -> str | None:
    """Why a silent service counts as hung; None while it may yet answer. Pure."""
    if silence.starved_s is not None and now_s - silence.starved_s >= STARVED_SILENCE_S:
        return "it has no file descriptor left"
    if now_s - silence.moved_s >= IDLE_SILENCE_S:
        return f"it did nothing for {IDLE_SILENCE_S:g} s, though asked"
    if silence.open_files and now_s - silence.since_s >= IDLE_SILENCE_S:
        return "it has no file descriptor left"
    if now_s - silence.since_s >= BUSY_SILENCE_S:
        return f"it works, but did not answer for {BUSY_SILENCE_S:g} s"
    return None


@dataclass(slots=True)
class Health:
    """Asks, and remembers since when there was no answer."""

    questions: Mapping[str, Sequence[Question]]
    members: Mapping[str, Members]
    silences: dict[str, Silence] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # hung → why
    stops: frozenset[str] = frozenset()  # with a process that is stopped now

    @classmethod
    def of(cls, nodes: Mapping[str, Node]) -> Health:
        found = {name: node.gate for name, node in nodes.items()}
        gates = {name: gate for name, gate in found.items() if isinstance(gate, ServiceGate)}
        return cls(
            {name: gate.questions() for name, gate in gates.items()},
            {name: Members(gate.service.program) for name, gate in gates.items()},
        )

    async def look(self) -> None:
        """Asks every service once; brings `silences` and `reasons` up to date."""
        before = {name: vitals.pulse(self.members[name].pids()) for name in self.silences}
        asked_s = time.monotonic()
        silent = await in_thread(liveness.silent, self.questions)
        now_s = time.monotonic()
        found = {}
        for name in silent:
            pids = self.members[name].pids()
            past = self.silences.get(name)
            if past is None:
                past = Silence(asked_s, asked_s)  # nothing to compare with yet
            elif vitals.pulse(pids).moved_since(before[name]):
                past.moved_s = now_s
            past.note(vitals.short_of_descriptors(pids), now_s)
            found[name] = past
        self.silences = found
        self.reasons = {name: why for name in silent if (why := self._reason(name, now_s))}

    def _reason(self, name: str, now_s: float) -> str | None:
        if vitals.stopped(self.members[name].pids()):
            return STOPPED
        return verdict(self.silences[name], now_s)

    def look_for_stops(self) -> bool:
        """Whether a service has been stopped since before the last such look."""
        now = frozenset(name for name, each in self.members.items() if vitals.stopped(each.pids()))
        twice, self.stops = now & self.stops, now
        self.reasons |= dict.fromkeys(twice, STOPPED)
        return bool(twice)

    def forget(self, names: Collection[str]) -> None:
        """What was just made anew begins anew."""
        for name in names:
            self.silences.pop(name, None)
            self.reasons.pop(name, None)
        self.stops -= frozenset(names)

    def hung(self, nodes: Mapping[str, Node], broken: Collection[str]) -> dict[str, str]:
        """Services that hang for no reason that lies in their needs, each with what shows it."""
        whole = frozenset(nodes) - frozenset(broken)
        first = culprits(nodes, frozenset(self.silences) & whole, whole)
        return {
            name: why
            for name, why in self.reasons.items()
            if name in whole and (name in first or why == STOPPED)
        }

    async def settled(
        self, nodes: Mapping[str, Node], broken: Callable[[], Awaitable[Collection[str]]]
    ) -> dict[str, str]:
        """Asks until every silent service has answered or hangs. For one look, as by `replay`."""
        while True:
            await self.look()
            if not self.silences:
                return {}  # the usual case, and a cheap one
            sick = await broken()
            whole = frozenset(nodes) - frozenset(sick)
            open_ = culprits(nodes, frozenset(self.silences) & whole, whole) - self.reasons.keys()
            if not open_:
                return self.hung(nodes, sick)
            await asyncio.sleep(LOOK_PAUSE_S)
