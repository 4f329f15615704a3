"""The supervisor: watches what is up, and heals the smallest part that is broken.

Everything that pushes (process exits, netlink, mounts) only says "look"; looking is the same
observation that `up` makes. Services do not depend on it: when it dies they live on, and the
next one finds them as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from orchestrator.app import App
from orchestrator.errors import BusyError, OrchestratorError
from orchestrator.kernel.monitor import Monitor
from orchestrator.kernel.namespace import Namespace
from orchestrator.processes import child
from orchestrator.processes.service import Service

SETTLE_S = 0.02  # changes come in bursts: one look for all of them
TICK_S = 1.0  # for what nothing pushes: sysctls, legacy iptables
FULL_LOOK_S = 30.0
BUSY_PAUSE_S = 0.2
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 10.0


@dataclass(slots=True)
class Healings:
    """When each node was healed: how long to wait, and whether to give it up. Pure."""

    limit: int
    window_s: float
    times: dict[str, list[float]] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    def wait_s(self, node: str, now_s: float) -> float:
        """Seconds until the node may be healed again; 0 the first time."""
        recent = self._recent(node, now_s)
        if not recent:
            return 0.0
        pause_s = min(FIRST_BACKOFF_S * 2.0 ** (len(recent) - 1), LONGEST_BACKOFF_S)
        return max(0.0, recent[-1] + pause_s - now_s)

    def healed(self, node: str, now_s: float) -> bool:
        """Notes a healing. False once that makes one too many within the window."""
        recent = [*self._recent(node, now_s), now_s]
        self.times[node] = recent
        if len(recent) > self.limit:
            self.given_up.add(node)
        return node not in self.given_up

    def _recent(self, node: str, now_s: float) -> list[float]:
        return [at for at in self.times.get(node, []) if at > now_s - self.window_s]


class Supervisor:
    """Runs until it is stopped."""

    def __init__(self, app: App, tell: Callable[[str], None]) -> None:
        self._app, self._tell = app, tell
        rules = app.stack.supervision
        self._policy, self._health_s = rules.policy, rules.health_interval_s
        self._healings = Healings(rules.start_limit, rules.start_window_s)
        self._look = asyncio.Event()
        self._exits: dict[int, asyncio.Task[None]] = {}
        self._alerted: frozenset[str] = frozenset()
        self._full_at_s = 0.0
        self._resting = False

    def rest(self) -> None:
        """Heals nothing from now on: the lab is to be taken down."""
        self._resting = True

    async def run(self) -> None:
        """Watches for ever; cancelled to stop."""
        monitor = Monitor(self._look.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick())
                tasks.create_task(self._health())
                while True:
                    self._watch(monitor)
                    await self._look.wait()
                    await asyncio.sleep(SETTLE_S)
                    self._look.clear()
                    await self._examine(frozenset())
        finally:
            monitor.close()
            for task in self._exits.values():
                task.cancel()

    def _watch(self, monitor: Monitor) -> None:
        """Everything that can push, as it is now; new namespaces and processes included."""
        resources = [node.resource for node in self._app.nodes.values()]
        monitor.watch([each.path for each in resources if isinstance(each, Namespace)])
        running = {
            process.pid
            for each in resources
            if isinstance(each, Service)
            for process in each.program.running()
        }
        for pid in running - self._exits.keys():
            self._exits[pid] = asyncio.ensure_future(self._exit_of(pid))

    async def _exit_of(self, pid: int) -> None:
        await child.wait_for_exit(pid)
        self._exits.pop(pid, None)
        self._look.set()

    async def _tick(self) -> None:
        """Looks at what nobody tells of. A whole look only now and then: it costs more."""
        while True:
            await asyncio.sleep(TICK_S)
            quick = [name for name in self._app.nodes if name.startswith(("sysctl:", "bridge:"))]
            now_s = time.monotonic()
            if await self._app.broken(quick) or now_s > self._full_at_s:
                self._full_at_s = now_s + FULL_LOOK_S
                self._look.set()

    async def _health(self) -> None:
        """A program that runs and does not answer, twice in a row, is hung."""
        while True:
            await asyncio.sleep(self._health_s)
            with contextlib.suppress(OrchestratorError):
                if await self._app.silent() and (hung := await self._app.hung()):
                    await self._examine(hung)

    async def _examine(self, hung: Collection[str]) -> None:
        """Finds what is broken and does what the policy says."""
        if self._resting:
            return
        try:
            broken = frozenset(await self._app.broken(self._app.nodes)) | frozenset(hung)
        except (OrchestratorError, OSError) as error:
            self._tell(f"cannot look: {error}")
            return
        broken -= self._healings.given_up
        if not broken:
            self._alerted = frozenset()
            return
        if self._policy != "heal":
            if broken != self._alerted:
                self._alerted = broken
                self._tell(f"drift ({self._policy}): {', '.join(sorted(broken))}")
                self._app.note_drift(broken)
            return
        now_s = time.monotonic()
        due = {name for name in broken if self._healings.wait_s(name, now_s) == 0}
        if len(due) < len(broken):
            waits = [self._healings.wait_s(name, now_s) for name in broken - due]
            asyncio.get_running_loop().call_later(min(waits) + 0.01, self._look.set)
        if due:
            await self._heal(frozenset(due), hung)

    async def _heal(self, due: frozenset[str], hung: Collection[str]) -> None:
        now_s = time.monotonic()
        try:
            result = await self._app.heal(due, hung, complain=self._tell)
        except BusyError:
            # Somebody works on the lab; look again when that may be over.
            asyncio.get_running_loop().call_later(BUSY_PAUSE_S, self._look.set)
            return
        except (OrchestratorError, OSError) as error:
            self._tell(f"cannot heal: {error}")
            result = None
        for name in due:
            if not self._healings.healed(name, now_s):
                self._tell(
                    f"{name} was healed {self._healings.limit} times and broke again: given up"
                )
        if result is not None:
            seconds = time.monotonic() - now_s
            self._tell(f"healed {', '.join(sorted(due))} in {seconds:.2f} s: {result.outcome}")
        self._look.set()
