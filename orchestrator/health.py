"""Health: which services hang, told apart from those that only have much to do.

Stopped by a signal: hung, as soon as two looks in a row have seen it. Otherwise it takes a
question that stays unanswered, and then what counts is what the threads did meanwhile. Who
answers in its own namespace does not hang: it is the way there that is broken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.engine.plan import Node
from orchestrator.linux import in_thread, inside
from orchestrator.onelook import one_look
from orchestrator.processes import vitals
from orchestrator.processes.gate import ServiceGate
from orchestrator.processes.liveness import Asker, Question, silent
from orchestrator.processes.members import Members
from orchestrator.processes.service import Service
from orchestrator.replay import culprits

STARVED_SILENCE_S = 0.2  # it has no descriptor left, and none came free
IDLE_SILENCE_S = 2.0  # no answer and no thread of it ran: nothing will come
BUSY_SILENCE_S = 10.0  # it works, but not for whoever asks
MOST_ANSWER_S = 0.005  # rather one wake-up for most of them than one for each
LOOK_PAUSE_S = 0.05  # between questions to a service that refuses at once
HUNG_GRACE_S = 0.5
# Enough for what it has in hand: those in its queue it cannot accept, and so waits for them.
STARVED_GRACE_S = 0.2
STOPPED = "a signal has stopped it"
STARVED = "it has no file descriptor left"


def hurried(node: Node, why: str) -> Node:
    """The node of a service that hangs for that reason: what did not answer is not waited for
    as long to leave."""
    service = node.resource
    if not isinstance(service, Service):
        return node
    grace_s = STARVED_GRACE_S if why == STARVED else HUNG_GRACE_S
    return replace(node, resource=replace(service, grace_s=min(service.grace_s, grace_s)))


Process = tuple[int, int]  # pid and start time: nobody else's within a boot


class Silence(Struct):
    """A service that does not answer: since when, and when it last did anything at all."""

    since_s: float
    moved_s: float


class Shortage(Struct, frozen=True):
    """A service that has no file descriptor left: what is open, and since when nothing new is."""

    since_s: float
    open_files: list[frozenset[int]]

    def goes_on(self, now: list[frozenset[int]]) -> bool:
        """Whether nothing was opened since: what is only closed, by us too, is no way out."""
        if len(now) != len(self.open_files):
            return False
        return all(new <= old for new, old in zip(now, self.open_files, strict=True))


def verdict(silence: Silence, shortage: Shortage | None, now_s: float) -> str | None:
    """Why a silent service counts as hung; None while it may yet answer. Pure."""
    if shortage is not None and (
        now_s - shortage.since_s >= STARVED_SILENCE_S or now_s - silence.since_s >= IDLE_SILENCE_S
    ):
        return STARVED
    if now_s - silence.moved_s >= IDLE_SILENCE_S:
        return f"it did nothing for {IDLE_SILENCE_S:g} s, though asked"
    if now_s - silence.since_s >= BUSY_SILENCE_S:
        return f"it works, but did not answer for {BUSY_SILENCE_S:g} s"
    return None


class Health(Struct):
    """Asks, and remembers since when there was no answer."""

    asker: Asker
    members: Mapping[str, Members]
    questions: Mapping[str, Collection[Question]]
    silences: dict[str, Silence] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # hung → why
    stops: frozenset[str] = frozenset()  # with a process that is stopped now
    shortages: dict[str, Shortage] = field(default_factory=dict)
    cut_off: frozenset[str] = frozenset()  # silent from here, but not at home
    judged: dict[str, frozenset[Process]] = field(default_factory=dict)  # whom all that is of

    @classmethod
    def of(cls, nodes: Mapping[str, Node]) -> Health:
        found = {name: node.gate for name, node in nodes.items()}
        gates = {name: gate for name, gate in found.items() if isinstance(gate, ServiceGate)}
        questions = {name: gate.questions() for name, gate in gates.items()}
        members = {name: Members(gate.service.program) for name, gate in gates.items()}
        return cls(Asker(questions), members, questions)

    async def look(self) -> None:
        """Asks every service once; brings `silences` and `reasons` up to date."""
        self.asker.renew(self.shortages)  # who can accept nobody may know those of before
        before = {name: vitals.pulse(self.members[name].pids()) for name in self.silences}
        asked_s = time.monotonic()
        self.asker.ask()
        await asyncio.sleep(MOST_ANSWER_S)
        if not self.asker.hear():
            await in_thread(self.asker.wait)
        unanswered = self.asker.silent()
        now_s = time.monotonic()
        found = {}
        for name in unanswered:
            pids = self.members[name].pids()
            past = self.silences.get(name)
            if past is None:
                past = Silence(asked_s, asked_s)  # nothing to compare with yet
            elif vitals.pulse(pids).moved_since(before[name]):
                past.moved_s = now_s
            found[name] = past
        self.silences = found
        reasons = {name: why for name in unanswered if (why := self._reason(name, now_s))}
        suspects = {name for name, why in reasons.items() if why != STOPPED}
        asked = suspects | (self.cut_off & self.silences.keys())
        self.cut_off = frozenset([name for name in asked if await in_thread(self._at_home, name)])
        self.reasons = {name: why for name, why in reasons.items() if name not in self.cut_off}
        self._forget_replaced()

    def _at_home(self, name: str) -> bool:
        """Whether it answers in its own namespace."""
        try:
            with inside(self.members[name].program.namespace):
                return not silent({name: self.questions[name]})
        except OSError:  # the namespace has lost its name, which is drift of its own
            return False

    def _reason(self, name: str, now_s: float) -> str | None:
        seen = self.members[name].look()
        if seen.is_stopped:
            return STOPPED
        self._note_shortage(name, now_s, is_short=seen.is_short)
        return verdict(self.silences[name], self.shortages.get(name), now_s)

    def look_at_processes(self) -> None:
        """Notes what is stopped, which is hung when it was so the last time too, and what has no
        descriptor left."""
        with one_look():
            seen = {name: each.look() for name, each in self.members.items()}
        now_s = time.monotonic()
        for name, each in seen.items():
            self._note_shortage(name, now_s, is_short=each.is_short)
        now = frozenset(name for name, each in seen.items() if each.is_stopped)
        twice, self.stops = now & self.stops, now
        self.reasons |= dict.fromkeys(twice, STOPPED)
        self._forget_replaced()

    def _forget_replaced(self) -> None:
        """What was seen of processes that somebody has replaced says nothing of those of now."""
        seen = {*self.silences, *self.reasons, *self.shortages, *self.stops}
        with one_look():
            now = {name: self.members[name].identity() for name in seen}
        self.forget([name for name in seen if self.judged.get(name, now[name]) != now[name]])
        self.judged = now

    def _note_shortage(self, name: str, now_s: float, *, is_short: bool) -> None:
        if not is_short:
            self.shortages.pop(name, None)
            return
        past, now = self.shortages.get(name), vitals.open_files(self.members[name].pids())
        if past is None or not past.goes_on(now):
            self.shortages[name] = Shortage(now_s, now)

    def sandboxes(self) -> set[int]:
        """Pids of the sandboxes that services run in: where one ends, its service does."""
        return {pid for each in self.members.values() for pid in each.sandbox()}

    def forget(self, names: Collection[str]) -> None:
        """What was just made anew begins anew."""
        for name in names:
            self.silences.pop(name, None)
            self.reasons.pop(name, None)
            self.shortages.pop(name, None)
        self.stops -= frozenset(names)
        self.cut_off -= frozenset(names)

    def hung(self, nodes: Mapping[str, Node], broken: Collection[str]) -> dict[str, str]:
        """Services that hang for no reason that lies in their needs, each with what shows it."""
        self._forget_replaced()  # a replay may have gone on since the last look
        whole = frozenset(nodes) - frozenset(broken)
        silences = frozenset(self.silences) - self.cut_off
        first = culprits(nodes, silences & whole, whole)
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
            silences = frozenset(self.silences) - self.cut_off
            open_ = culprits(nodes, silences & whole, whole) - self.reasons.keys()
            if not open_:
                return self.hung(nodes, sick)
            await asyncio.sleep(LOOK_PAUSE_S)
