"""The supervisor: watches what is up, and heals the smallest part that is broken.

Everything that pushes (process exits, netlink, mounts) only says "look"; looking is the same
observation that `up` makes. Services do not depend on it: when it dies they live on, and the
next one finds them as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection, Mapping

from msgspec import Struct, field

from orchestrator.app import App, drifts
from orchestrator.beat import beat
from orchestrator.diskspace import full_places
from orchestrator.errors import BusyError, OrchestratorError
from orchestrator.events import HealingGivenUp
from orchestrator.health import LOOK_PAUSE_S, Health
from orchestrator.kernel.bridge import Bridge
from orchestrator.kernel.monitor import Monitor
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.sysctl import Kept, Sysctl
from orchestrator.onelook import one_look
from orchestrator.processes import child
from orchestrator.processes.service import Service
from orchestrator.replay import radius
from orchestrator.terminal import gist

SETTLE_S = 0.02  # changes come in bursts: one look for all of them
TICK_S = 1.0  # for what nothing pushes: sysctls, legacy iptables
FULL_LOOK_S = 120.0  # for what is changed in no way that anybody tells of, or that is cheap to see
SPACE_LOOK_S = 5.0
BUSY_PAUSE_S = 0.2
PROCESS_LOOK_S, MARGIN_S = 1.0, 0.1
STOP_CONFIRM_S = 0.1  # a process that is stopped: twice seen is proof
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 10.0


class Healings(Struct):
    """When each node was healed: how long to wait, and whether to give it up. Pure."""

    limit: int
    window_s: float
    times: dict[str, list[float]] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    @property
    def told(self) -> str:
        """Why a node is given up."""
        return f"healed {self.limit} times within {self.window_s:g} s and broke again"

    def wait_s(self, node: str, now_s: float) -> float:
        """Seconds until the node may be healed again; 0 the first time."""
        recent = self._recent(node, now_s)
        if not recent:
            return 0.0
        pause_s = min(FIRST_BACKOFF_S * 2.0 ** (len(recent) - 1), LONGEST_BACKOFF_S)
        return max(0.0, recent[-1] + pause_s - now_s)

    def healed(self, node: str, now_s: float) -> None:
        """Notes a healing, whatever came of it."""
        self.times[node] = [*self._recent(node, now_s), now_s]

    def give_up(self, broken: Collection[str], now_s: float) -> list[str]:
        """Of what is broken, what has been healed too often to be healed again; told once."""
        found = [node for node in broken if len(self._recent(node, now_s)) >= self.limit]
        new = [node for node in sorted(found) if node not in self.given_up]
        self.given_up.update(new)
        return new

    def forgive(self) -> None:
        """Everything begins anew: what made healings fail is over."""
        self.times.clear()
        self.given_up.clear()

    def forgive_mended(self, broken: Collection[str]) -> None:
        """What was given up and is well: somebody else has mended it. Its healings count on: if it
        breaks before they are long ago, it is given up anew, and told."""
        self.given_up.intersection_update(broken)

    def _recent(self, node: str, now_s: float) -> list[float]:
        return [at for at in self.times.get(node, []) if at > now_s - self.window_s]


class Supervisor:
    """Runs until it is stopped."""

    def __init__(self, app: App, tell: Callable[[str], None]) -> None:
        self._app, self._tell = app, tell
        rules = app.stack.supervision
        self._policy, self._health_s = rules.policy, rules.health_interval_s
        self._healings = Healings(rules.start_limit, rules.start_window_s)
        self._health = Health.of(app.nodes)
        self._look = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._exits: dict[int, asyncio.Task[None]] = {}
        self._alerted: frozenset[str] = frozenset()
        self._cut_off: frozenset[str] = frozenset()
        self._full_at_s = 0.0
        nodes = app.nodes.values()
        programs = [node.resource.program for node in nodes if isinstance(node.resource, Service)]
        self._data = [str(path) for program in programs for path in program.data.values()]
        self._bridges = [node.resource for node in nodes if isinstance(node.resource, Bridge)]
        self._sysctls = [node.resource for node in nodes if isinstance(node.resource, Sysctl)]
        self._settings = Kept()
        self._resting = False

    def rest(self) -> None:
        """Heals nothing from now on: the lab is to be taken down."""
        self._resting = True

    def wake(self) -> None:
        """Heals again: it was not taken down."""
        self._resting = False
        self._look.set()

    async def run(self) -> None:
        """Watches for ever; cancelled to stop."""
        monitor = Monitor(self._look.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick())
                tasks.create_task(self._look_at_services())
                while True:
                    self._watch(monitor)
                    await self._look.wait()
                    await asyncio.sleep(SETTLE_S)
                    self._look.clear()
                    await self._examine()
        finally:
            monitor.close()
            for task in self._exits.values():
                task.cancel()

    def _watch(self, monitor: Monitor) -> None:
        """Everything that can push, as it is now; new namespaces and processes included."""
        resources = [node.resource for node in self._app.nodes.values()]
        monitor.watch([each.path for each in resources if isinstance(each, Namespace)])
        with one_look():
            running = self._health.sandboxes()
        for pid in running - self._exits.keys():
            self._exits[pid] = asyncio.ensure_future(self._exit_of(pid))

    async def _exit_of(self, pid: int) -> None:
        await child.wait_for_exit(pid)
        self._exits.pop(pid, None)
        self._look.set()

    async def _tick(self) -> None:
        """Looks at what nobody tells of. A whole look only now and then: it costs more."""
        full: list[str] = []
        space_at_s = 0.0
        while True:
            await beat(TICK_S)
            now_s = time.monotonic()
            was_full = full
            if full or now_s > space_at_s:
                space_at_s = now_s + SPACE_LOOK_S
                full = full_places(self._app.lab)
            for place in full if full != was_full else []:
                self._tell(place)
            if was_full and not full:
                self._tell("there is room again")
                self._healings.forgive()  # what was given up meanwhile had no chance
                self._look.set()
            if self._has_wrong_setting() or now_s > self._full_at_s:
                self._full_at_s = now_s + FULL_LOOK_S
                self._look.set()

    def _has_wrong_setting(self) -> bool:
        """Also deleted data directories: cheap to ask, and nobody tells of them either."""
        read = self._settings.read
        return (
            not all(map(os.path.exists, self._data))
            or any(bridge.wrong_setting(read) for bridge in self._bridges)
            or not all(each.is_wanted(read(each.key)) for each in self._sysctls)
        )

    async def _look_at_services(self) -> None:
        """Whether they are alive: by asking at the interval, a silent one again at once; by
        looking in between, since what is stopped or can open no file keeps its sockets and
        says nothing."""
        health, asked_s = self._health, -self._health_s
        while True:
            if health.silences:
                await asyncio.sleep(LOOK_PAUSE_S)
            elif health.stops:
                await asyncio.sleep(STOP_CONFIRM_S)
            else:
                await beat(min(PROCESS_LOOK_S, self._health_s))
            with contextlib.suppress(OrchestratorError, OSError):
                health.look_at_processes()
                now_s = time.monotonic()
                is_due = now_s - asked_s > self._health_s - MARGIN_S
                if is_due or health.silences or health.shortages:
                    asked_s = now_s
                    await health.look()
                    self._tell_of_cut_off()
                if health.reasons:
                    await self._examine()

    def _tell_of_cut_off(self) -> None:
        """Each once, as long as it lasts: what others put in the way is not ours to take away."""
        for name in sorted(self._health.cut_off - self._cut_off):
            short = name.partition(":")[2]
            self._tell(
                f"{short} answers in its own namespace, but not the host; "
                f"see `orchestrator why {short}`"
            )
        self._cut_off = self._health.cut_off

    async def _examine(self) -> None:
        """Finds what is broken and does what the policy says."""
        async with self._one_at_a_time:
            await self._examine_now()

    async def _examine_now(self) -> None:
        if self._resting:
            return
        try:
            seen = await self._app.broken(self._app.nodes)
            hung = self._health.hung(self._app.nodes, seen)
        except (OrchestratorError, OSError) as error:
            self._tell(f"cannot look: {error}")
            return
        broken = frozenset(seen) | hung.keys()
        self._healings.forgive_mended(broken)
        broken -= self._healings.given_up
        if lost := self._healings.give_up(broken, time.monotonic()):
            self._tell(f"given up: {', '.join(lost)} was {self._healings.told}")
            await self._app.note(HealingGivenUp(name, self._healings.told) for name in lost)
            broken -= frozenset(lost)
        if not broken:
            self._alerted = frozenset()
            return
        if self._policy != "heal":
            if broken != self._alerted:
                self._alerted = broken
                drift = [each for each in drifts(seen, hung) if each.node in broken]
                told = "; ".join(f"{each.node}: {gist(each.detail)}" for each in drift)
                self._tell(f"drift ({self._policy}): {told}")
                if self._policy == "freeze":
                    await self._app.freeze(
                        broken, {n: why for n, why in hung.items() if n in broken}
                    )
                else:
                    await self._app.note(drift)
            return
        now_s = time.monotonic()
        due = {name for name in broken if self._healings.wait_s(name, now_s) == 0}
        # What stands on something that has to wait would wait for it in vain.
        due -= radius(self._app.nodes, broken - due, cascade=False).everything
        if len(due) < len(broken):
            waits = [self._healings.wait_s(name, now_s) for name in broken - due]
            asyncio.get_running_loop().call_later(min(waits) + 0.01, self._look.set)
        if due:
            await self._heal(frozenset(due), {n: why for n, why in hung.items() if n in due})

    async def _heal(self, due: frozenset[str], hung: Mapping[str, str]) -> None:
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
        self._health.forget(due)
        for name in due:
            self._healings.healed(name, now_s)
        if result is not None:
            seconds = time.monotonic() - now_s
            self._tell(f"healed {', '.join(sorted(due))} in {seconds:.2f} s: {result.outcome}")
        self._look.set()
