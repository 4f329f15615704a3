"""Runs a plan with one verb: one writer of the plan, bounded concurrency, events for everything.

Every node goes through the same phases, told apart by events:
StepQueued → (slot) → SlotTaken → StepStarted → work → StepProvisioned → (what it was started
beside) → StepJoined → (gate) → StepFinished, StepRetried → (backoff) → StepQueued for another
attempt, and StepGivenUp → (undo) → StepFinished where none is left. What is as wanted has no
StepStarted, what has nothing to wait for no StepProvisioned. A slot is held for work only: a node
that waits for its readiness must not keep the node it waits for from starting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial

from msgspec import Struct, field

from orchestrator.bounded import bounded
from orchestrator.engine.plan import Node, Plan, Stage, reversed_needs
from orchestrator.engine.retry import Sleep, attempts
from orchestrator.engine.slots import Slots
from orchestrator.errors import GateTimeoutError, OrchestratorError, ProcessError
from orchestrator.events import (
    Action,
    Cause,
    Needs,
    Outcome,
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
from orchestrator.needs import weights as by_length
from orchestrator.resource import Emit, State, ensure, is_absent, rebuild

UNDO_DEADLINE_S = 30.0


class Result(Struct):
    """What a run came to."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # name → the need that broke

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(n for n, outcome in self.outcomes.items() if outcome is Outcome.FAILED)

    @property
    def outcome(self) -> Outcome:
        values = set(self.outcomes.values())
        if Outcome.CANCELLED in values:
            return Outcome.CANCELLED
        if Outcome.FAILED in values:
            return Outcome.FAILED
        return Outcome.CHANGED if Outcome.CHANGED in values else Outcome.UNCHANGED


class _NeedLostError(Exception):
    """What a node was started beside did not come about."""

    def __init__(self, need: str) -> None:
        super().__init__(f"its need {need} did not come about")
        self.need = need


class Executor:
    """Brings nodes about, or takes them away, in the order of their needs; of several that may
    begin the one of the greatest of `weights` is the first, without these the one that the
    longest chain hangs on."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        *,
        emit: Emit,
        max_workers: int,
        sleep: Sleep = asyncio.sleep,
        weights: Weights | None = None,
    ) -> None:
        self._nodes = nodes
        self._emit = emit
        self._max_workers = max_workers
        self._sleep = sleep
        self._weights = weights

    async def run(self, action: Action, *, rebuild: Collection[str] = ()) -> Result:
        """Acts on every node. Failures are data in the result, not exceptions.

        Nodes of `rebuild` are made anew even if they are as wanted.

        When cancelled, steps under way undo what they left half-built, and the result of
        what was reached is emitted; then CancelledError goes on to the caller.
        """
        needs = _ordered(self._nodes, action)
        # What takes links away does so for all that ask in one turn.
        slots = Slots(self._max_workers, together=action is Action.REMOVE)
        heavy = self._weights or by_length(needs)
        run = _Run(self._nodes, needs, heavy, action, rebuild, self._emit, slots, self._sleep)
        return await run.to_end()


def recorded_needs(nodes: Mapping[str, Node], action: Action) -> Needs:
    """The order that a run over these nodes obeys, as `RunStarted` has it."""
    return {
        name: {need: stage.name.lower() for need, stage in stages.items()}
        for name, stages in _ordered(nodes, action).items()
        if stages
    }


def _ordered(nodes: Mapping[str, Node], action: Action) -> dict[str, dict[str, Stage]]:
    needs = {name: dict(node.needs) for name, node in nodes.items()}
    if action is Action.ENSURE:
        return needs
    found = reversed_needs(needs, {name: node.parting for name, node in nodes.items()})
    for name, node in nodes.items():
        found[name] |= dict.fromkeys(node.outlives & nodes.keys(), Stage.READY)
    return found


class _Run:
    def __init__(
        self,
        nodes: Mapping[str, Node],
        needs: Mapping[str, Mapping[str, Stage]],
        heavy: Mapping[str, int],
        action: Action,
        rebuild: Collection[str],
        emit: Emit,
        slots: Slots,
        sleep: Sleep,
    ) -> None:
        self._nodes, self._action, self._emit = nodes, action, emit
        self._rebuild, self._slots, self._sleep = rebuild, slots, sleep
        self._plan = Plan(needs)
        self._weights = heavy
        self._beside = {
            name: [need for need, stage in stages.items() if stage is Stage.BESIDE]
            for name, stages in needs.items()
        }
        self._settled = {need: asyncio.Event() for them in self._beside.values() for need in them}
        self._queued: dict[str, None] = {}  # released, without a slot so far
        self._is_cancelled = False
        self._steps = asyncio.TaskGroup()
        self._ended = asyncio.Event()
        self._result = Result()

    async def to_end(self) -> Result:
        async with self._steps:
            self._release("")
            try:
                await self._ended.wait()
            except asyncio.CancelledError:
                self._cancel_queued()
                raise
        return self._result

    def _release(self, by: str) -> None:
        """Whatever has all that it needs asks for a slot, and begins once it has one."""
        for name in self._plan.take_ready():
            self._queued[name] = None
            self._emit(StepQueued(name, 1, by))
            self._slots.ask(self._weights[name], partial(self._begin, name))
        if self._is_cancelled:  # what ended in the same moment has released these
            self._cancel_queued()
        if not self._plan:
            self._ended.set()

    def _begin(self, name: str) -> None:
        if name in self._queued:
            del self._queued[name]
            self._steps.create_task(self._step(name), name=name)

    def _cancel_queued(self) -> None:
        self._is_cancelled = True
        while self._queued:
            name, _ = self._queued.popitem()
            self._emit(StepGivenUp(name, 1, Cause.CANCELLED))
            self._cancelled(name, 1)

    def _cancelled(self, name: str, attempt: int) -> None:
        self._result.outcomes[name] = Outcome.CANCELLED
        self._settle(name)
        self._emit(StepFinished(name, self._action, Outcome.CANCELLED, attempt, ""))

    def _reach(self, name: str, stage: Stage | None) -> None:
        """The node has come to that stage, or to none any more."""
        if stage is not None:
            self._plan.reach(name, stage)
        elif self._action is Action.REMOVE:
            self._plan.reach(name, Stage.READY)  # the rest is still to be taken away
        else:
            self._skip(self._plan.fail(name))
        self._release(name)

    def _settle(self, name: str) -> None:
        if name in self._settled:
            self._settled[name].set()

    def _skip(self, lost: Mapping[str, str]) -> None:
        for name, need in lost.items():
            self._result.outcomes[name] = Outcome.SKIPPED
            self._result.skipped[name] = need
            self._settle(name)
            reason = str(_NeedLostError(need))
            self._emit(StepFinished(name, self._action, Outcome.SKIPPED, 0, reason))

    async def _companions(self, name: str) -> str:
        """Returns once all that the node was started beside is ready: the one that was last,
        or nothing if it had to wait for none. Raises _NeedLostError."""
        last = ""
        for need in self._beside[name]:
            if not self._settled[need].is_set():
                await self._settled[need].wait()
                last = need
            if self._result.outcomes[need] not in (Outcome.CHANGED, Outcome.UNCHANGED):
                raise _NeedLostError(need)
        return last

    async def _step(self, name: str) -> None:
        """One node to its end, from its first slot on. Catches what may go wrong with the world;
        a bug goes through."""
        anew = name in self._rebuild
        join = partial(self._companions, name) if self._beside[name] else None
        reach = partial(self._reach, name)
        step = _Step(self._nodes[name], self._action, anew, self._emit, reach, join)
        reason, log = "", tuple[str, ...]()

        async def once(attempt: int) -> None:
            step.attempt = attempt
            if attempt > 1:
                self._emit(StepQueued(name, attempt, name))
                await self._slots.acquire(self._weights[name])
            await step.try_once(self._slots)

        def tell(attempt: int, delay_s: float, error: BaseException) -> None:
            self._emit(StepRetried(name, attempt, round(delay_s, 3), str(error)))

        try:
            node = self._nodes[name]
            await step.within_deadline(
                attempts(once, policy=node.retry, tell=tell, sleep=self._sleep)
            )
            outcome = step.outcome
        except asyncio.CancelledError:
            await step.undo(Cause.CANCELLED)
            self._cancelled(name, step.attempt)
            raise
        except _NeedLostError as error:
            await step.undo(Cause.CANCELLED)
            outcome, reason = Outcome.SKIPPED, str(error)
            self._result.skipped[name] = error.need
        except (OrchestratorError, OSError) as error:
            timed_out = isinstance(error, GateTimeoutError)
            await step.undo(Cause.TIMEOUT if timed_out else Cause.ERROR)
            outcome, reason = Outcome.FAILED, str(error)
            self._result.errors[name] = error
            if isinstance(error, ProcessError):
                log = error.log
        self._result.outcomes[name] = outcome
        self._emit(StepFinished(name, self._action, outcome, step.attempt, reason, log))
        self._settle(name)
        is_lost = outcome in (Outcome.FAILED, Outcome.SKIPPED)
        self._reach(name, None if is_lost else Stage.READY)


class _Step:
    """One node's way through its attempts."""

    def __init__(
        self,
        node: Node,
        action: Action,
        anew: bool,
        emit: Emit,
        reach: Callable[[Stage], None],
        join: Callable[[], Awaitable[str]] | None,
    ) -> None:
        self._join, self._limit = join, asyncio.timeout(node.deadline_s)
        self._node, self._action, self._anew = node, action, anew
        self._emit, self._reach = emit, reach
        self._touched = False  # set before the verb is called: it may fail half-way
        self.attempt = 0
        self.outcome = Outcome.UNCHANGED

    async def within_deadline(self, work: Awaitable[None]) -> None:
        """Awaits the work; when the node's deadline passes, says what it was waiting for."""
        deadline_s = self._node.deadline_s
        try:
            async with self._limit:
                await work
        except TimeoutError as error:
            gate = self._node.gate if self._action is Action.ENSURE else None
            last, log = (gate.last_answer(), gate.log_lines()) if gate else ("", ())
            wanted = "ready" if self._action is Action.ENSURE else "gone"
            reason = f"not {wanted} within its deadline of {deadline_s:g} s"
            if last:
                reason += f"; last answer: {last}"
            raise GateTimeoutError(self._node.name, self._action, reason, log=log) from error

    async def try_once(self, slots: Slots) -> None:
        """One attempt: work in a slot that is given back, then the gate outside of it."""
        node = self._node
        try:
            self._emit(SlotTaken(node.name, self.attempt))
            if self._touched:
                await node.resource.remove()  # what the failed attempt left half-built
            looks = not (self._touched or self._anew)
            seen = await self._look() if looks else State.PARTIAL
            if seen is (State.ABSENT if self._action is Action.REMOVE else State.PRESENT):
                self.outcome = Outcome.UNCHANGED
            else:
                self._emit(StepStarted(node.name, self._action, self.attempt))
                self._touched = True
                self.outcome = await self._act(seen)
        finally:
            slots.release()
        if self._action is Action.REMOVE:
            return
        if self._join is None and node.gate is None:
            return  # ready
        self._emit(StepProvisioned(node.name, self.attempt))
        self._reach(Stage.STARTED)
        if self._join is not None:
            await self._joined(self._join)
        if node.gate is not None:
            await node.gate.wait_for()

    async def _joined(self, join: Callable[[], Awaitable[str]]) -> None:
        """What it was started beside has deadlines of its own: its time is not the node's."""
        self._limit.reschedule(None)
        last = await join()
        self._limit.reschedule(asyncio.get_running_loop().time() + self._node.deadline_s)
        if last:
            self._emit(StepJoined(self._node.name, self.attempt, last))

    async def _look(self) -> State:
        if self._action is Action.REMOVE:
            return State.ABSENT if await is_absent(self._node.resource) else State.PARTIAL
        return (await self._node.resource.observe()).state

    async def _act(self, seen: State) -> Outcome:
        if self._action is Action.REMOVE:
            return await self._node.resource.remove()
        if self._anew:
            return await rebuild(self._node.resource)
        return await ensure(self._node.resource, seen)

    async def undo(self, cause: Cause) -> None:
        """Takes away what this run left half-built; what stood before is not touched."""
        self._emit(StepGivenUp(self._node.name, self.attempt, cause))
        if not self._touched or self._action is Action.REMOVE:
            return
        # The step's own error says more than these; `down` takes the rest.
        with contextlib.suppress(OrchestratorError, OSError, TimeoutError):
            await bounded(UNDO_DEADLINE_S, self._node.resource.remove())
