"""The kernel's view of a lab: looks when asked, at most once a second, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from orchestrator.app import App
from orchestrator.errors import OrchestratorError
from orchestrator.kernel import iptables, rulecounters
from orchestrator.kernel.rulecounters import RuleCounter
from orchestrator.linux import in_thread
from orchestrator.view.collector import KernelCollector
from orchestrator.view.edges import Sorter
from orchestrator.view.families import Figures
from orchestrator.view.gauges import gauges
from orchestrator.view.plan import Plan, plan_of
from orchestrator.view.sample import Sample
from orchestrator.view.sampler import Sampler
from orchestrator.view.totals import Totals

PERIOD_S = 1.0


class Figuring:
    """Figures from samples in their order: totals over all of them, gauges of the last. Pure."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._totals = plan, Totals(plan)

    def add(self, sample: Sample) -> Figures:
        """What is to be told after this sample."""
        sorter = Sorter(self._plan, sample)
        ends = list(sorter.ends())
        self._totals.add(sample, ends)
        now = gauges(self._plan, sample, sorter.queues(), ends, self._totals.edges)
        return {**self._totals.figures(), **now}


class KernelView:
    """For one lab, on whose host this process must be. `collector` goes into a registry.

    Totals begin with the first `refresh`, so ask for one early.
    """

    def __init__(self, app: App, *, clock: Callable[[], float] = time.monotonic) -> None:
        plan = plan_of(app)
        self._plan, self._clock = plan, clock
        self._sampler, self._figuring = Sampler(plan), Figuring(plan)
        self._turn = asyncio.Lock()
        self._looking = threading.Lock()  # a cancelled refresh leaves its thread at work
        self._next_s = -float("inf")
        self.collector = KernelCollector(Figuring(plan).add(Sample()))

    async def refresh(self) -> None:
        """Looks, unless that was done within the last second. Never raises for the lab."""
        async with self._turn:
            now_s = self._clock()
            if now_s < self._next_s:
                return
            self._next_s = now_s + PERIOD_S
            listed = None if iptables.is_nft() else await self._listed()
            await in_thread(self._look, listed)

    def _look(self, listed: Sequence[RuleCounter] | None) -> None:
        with self._looking:
            rules = listed
            if rules is None:
                with contextlib.suppress(OSError):  # changed while it was listed: next time
                    rules = rulecounters.read(self._plan.chains) or None
            self.collector.show(self._figuring.add(replace(self._sampler.take(), rules=rules)))

    async def _listed(self) -> Sequence[RuleCounter] | None:
        """By iptables itself, for its legacy variant; None where that cannot be read now."""
        try:
            live = await iptables.save()
        except (OrchestratorError, OSError, subprocess.SubprocessError):
            return None
        return rulecounters.from_tables(live, self._plan.rules)
