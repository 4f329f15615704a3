"""Health: which services hang, told apart from those that only have much to do.

Stopped by a signal: hung, as soon as two looks in a row have seen it. Otherwise it takes a
question that stays unanswered, and then what counts is what the threads did meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.engine.plan import Node
from orchestrator.onelook import one_look
from orchestrator.processes import vitals
from orchestrator.processes.gate import ServiceGate
from orchestrator.processes.service import Service
from orchestrator.replay import culprits

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
    """A service that does not answer: since when, and when it last did anything at all."""

    since_s: float
    moved_s: float


def verdict(silence: Silence, now_s: float, *, starved: bool) -> str | None:
    """Why a silent service counts as hung; None while it may yet answer. Pure."""
    if now_s - silence.moved_s >= IDLE_SILENCE_S:
        return f"it did nothing for {IDLE_SILENCE_S:g} s, though asked"
    if starved and now_s - silence.since_s >= IDLE_SILENCE_S:
        return "it has no file descriptor left"
    if now_s - silence.since_s >= BUSY_SILENCE_S:
        return f"it works, but did not answer for {BUSY_SILENCE_S:g} s"
    return None


@dataclass(slots=True)
class Health:
    """Asks, and remembers since when there was no answer."""

    gates: Mapping[str, ServiceGate]
    silences: dict[str, Silence] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # hung → why
    stops: frozenset[str] = frozenset()  # with a process that is stopped now
    _pids: dict[str, list[int]] = field(default_factory=dict)
    _wrappers: dict[str, frozenset[int]] = field(default_factory=dict)  # of bubblewrap

    @classmethod
    def of(cls, nodes: Mapping[str, Node]) -> Health:
        gates = {name: node.gate for name, node in nodes.items()}
        return cls({name: gate for name, gate in gates.items() if isinstance(gate, ServiceGate)})

    async def look(self) -> None:
        """Asks every service once; brings `silences` and `reasons` up to date."""
        before = {name: vitals.pulse(self._programs(name)) for name in self.silences}
        asked_s = time.monotonic()
        answers = await asyncio.gather(*(gate.answers() for gate in self.gates.values()))
        silent = [name for name, answered in zip(self.gates, answers, strict=True) if not answered]
        now_s = time.monotonic()
        found = {}
        for name in silent:
            past = self.silences.get(name)
            if past is None:
                past = Silence(asked_s, asked_s)  # nothing to compare with yet
            elif vitals.pulse(self._programs(name)).moved_since(before[name]):
                past.moved_s = now_s
            found[name] = past
        self.silences = found
        self.reasons = {name: why for name in silent if (why := self._reason(name, now_s))}

    def _reason(self, name: str, now_s: float) -> str | None:
        pids = self._programs(name)
        if vitals.stopped(pids):
            return STOPPED
        starved = bool(vitals.short_of_descriptors(pids))
        return verdict(self.silences[name], now_s, starved=starved)

    def look_for_stops(self) -> bool:
        """Whether a service has been stopped since before the last such look."""
        now = frozenset(name for name in self._pids if vitals.stopped(self._present(name)))
        twice, self.stops = now & self.stops, now
        self.reasons |= dict.fromkeys(twice, STOPPED)
        return bool(twice)

    def _present(self, name: str) -> Collection[int]:
        """Its processes, as its control group lists them for little; without one those that
        there were at the last `refresh`."""
        found = self.gates[name].service.program.group.processes()
        return self._pids[name] if found is None else frozenset(found) - self._wrappers[name]

    def refresh(self) -> None:
        """Notes which processes are to be looked at for stops, and which are only wrappers."""
        with one_look():
            self._pids = {name: self._programs(name) for name in self.gates}
            self._wrappers = {
                name: frozenset(each.pid for each in gate.service.program.running())
                for name, gate in self.gates.items()
            }

    def forget(self, names: Collection[str]) -> None:
        """What was just made anew begins anew."""
        for name in names:
            self.silences.pop(name, None)
            self.reasons.pop(name, None)
        self.stops -= frozenset(names)
        self.refresh()

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

    def _programs(self, name: str) -> list[int]:
        return vitals.programs(self.gates[name].service.program.running())
