"""Readiness gates: pushed first (sd_notify, exit), then proven by protocol.

Where nothing pushes, asking starts at 2 ms and grows to the stated interval: a probe costs
less than a millisecond, and every wait is on the way of whatever needs the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from msgspec import Struct, field

from orchestrator.errors import ProcessError
from orchestrator.events import GateChecked, ProcessExited
from orchestrator.processes import child
from orchestrator.processes.liveness import Question, question
from orchestrator.processes.probes import PROBE_TIMEOUT_S, Answer, Probe
from orchestrator.processes.service import Service
from orchestrator.resource import Emit

FIRST_PAUSE_S = 0.002
GROWTH = 1.5


class Probes(Struct, frozen=True):
    """Every probe in turn, each until it passes."""

    node: str
    probes: Sequence[Probe]
    interval_s: float
    emit: Emit
    last: dict[str, str] = field(default_factory=dict)

    async def wait_for(self) -> None:
        for probe in self.probes:
            await self._until_passed(probe)

    async def _until_passed(self, probe: Probe) -> None:
        told: set[Answer] = set()
        pause_s = FIRST_PAUSE_S
        while True:
            begun_ns = time.monotonic_ns()
            answer = await ask(probe)
            took_ns = time.monotonic_ns() - begun_ns
            self.last["answer"] = f"{probe.kind}: {answer.text}"
            if answer not in told:  # each new answer once: a probe may waver for long
                self.emit(GateChecked(self.node, probe.kind, answer.passed, answer.text, took_ns))
                told.add(answer)
            if answer.passed:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * GROWTH, self.interval_s)

    def last_answer(self) -> str:
        return self.last.get("answer", "")

    def log_lines(self) -> tuple[str, ...]:
        return ()


async def ask(probe: Probe) -> Answer:
    """The probe's answer; no answer at all is one that did not pass."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await probe.check()
    except TimeoutError:
        return Answer(False, f"no answer within {PROBE_TIMEOUT_S:g} s")
    except OSError as error:
        return Answer(False, error.strerror or str(error) or type(error).__name__)


class ServiceGate(Struct, frozen=True):
    """A service's notification and probes, given up at once when its process ends."""

    service: Service
    probes: Probes
    is_awaited: bool = False  # others cannot begin before it is ready

    async def wait_for(self) -> None:
        with self.service.ahead() if self.is_awaited else contextlib.nullcontext():
            await self._proven()

    async def _proven(self) -> None:
        proof = asyncio.ensure_future(self._proof())
        watch = asyncio.ensure_future(self._exit())
        try:
            await asyncio.wait({proof, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not proof.done():
                code = watch.result()
                reason = f"it ended with exit code {code} before it was ready"
                raise ProcessError(self.service.name, "start", reason, log=self.log_lines())
            proof.result()
        finally:
            for task in (proof, watch):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    def questions(self) -> list[Question]:
        """What a program that is alive reacts to."""
        return [asked for probe in self.probes.probes if (asked := question(probe)) is not None]

    async def _proof(self) -> None:
        notifications = self.service.notifications
        if notifications is not None and notifications.is_open:
            self.probes.last["answer"] = "notify: no READY=1 yet"
            await notifications.wait_for_ready()
            notifications.close()
            self.probes.emit(GateChecked(self.service.name, "notify", True, "READY=1"))
        await self.probes.wait_for()

    async def _exit(self) -> int:
        """The exit code of the process that this run started; never returns for others."""
        running = self.service.current.get(self.service.name)
        if running is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError
        code = await child.exit_code(running)
        self.probes.emit(ProcessExited(self.service.name, running.pid, code))
        return code

    def last_answer(self) -> str:
        return self.probes.last_answer()

    def log_lines(self) -> tuple[str, ...]:
        running = self.service.current.get(self.service.name)
        return running.log_lines() if running else child.tail(self.service.program.log)
