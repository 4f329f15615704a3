"""The platform's commands: cold and warm `up`, `down`, `replay` of a layer, `status`, `--help`."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from names import next_name
from rig import ROOT, SHOP, World, run

from bench.lag import p99_ms
from bench.resident import cpu_s
from bench.rows import Bound, Row, Section, at_most, ratio
from orchestrator.app import load_stack
from orchestrator.sights.timings import last_times

HERE = Path(__file__).parent
COLD = "`up`, cold: initdb, migrations, to the first 200"
LAYER, ITS_SERVICE = "gateway", "service:api-gateway"
ADDED_MS = 100  # what `replay` may take beyond the layer's own start

METHOD = (
    "Whole commands, the interpreter's start included, on a private host. Cold means an empty "
    "state directory: PostgreSQL's data directory is made by initdb. No supervisor: it starts "
    "after the platform serves."
)

COMPOSE = "Docker Compose is left out: it needs an engine and its images, which the bench has not."


def measure(rounds: int) -> Section:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        world = World.build(next_name(), Path(directory))
        try:
            shop = _Shop(world)
            for _ in range(rounds):
                shop.round()
            world.orchestrator("up").ok()
            chain = world.orchestrator("analyze", "critical-chain").ok().out
        finally:
            world.orchestrator("down", "--volumes")
            world.remove()
    shop.lags_ms = p99_ms(rounds)
    return Section("Platform", shop.rows(), shop.notes(), listing=chain)


def sequential_s() -> float:
    """Seconds of the shell script's cold start, on a host of its own."""
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        work.chmod(0o755)
        world = World.build(next_name(), work)
        try:
            begun = time.perf_counter()
            words = [HERE / "sequential.sh", world.host, work, ROOT / "services"]
            there = ["nsenter", f"--net=/run/netns/{world.host}", "bash"]
            run(*there, *words, Path(sys.executable).parent).ok()
            return time.perf_counter() - begun
        finally:
            run("bash", work / "stop.sh")
            for service in load_stack(SHOP)[0].services:
                run("ip", "netns", "delete", f"{world.host}.{service}")
            world.remove()


class _Shop:
    """The rounds' figures by what was measured."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._found: dict[str, list[float]] = {}
        self.lags_ms: list[float] = []

    def round(self) -> None:
        world = self._world
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._timed("cold", lambda: world.orchestrator("up").ok())
        self._add("cpu", self._cpu_since(before))
        self._add("cold ratio", self._last("up"))
        self._add("sequential", sequential_s())
        self._timed("again", lambda: world.orchestrator("up").ok())
        self._timed("status", lambda: world.orchestrator("status").ok())
        self._timed("replay", lambda: world.orchestrator("replay", LAYER).ok())
        own_ns = last_times(self._journal)["replay"].nodes[ITS_SERVICE].own_ns
        self._add("own", own_ns / 1e9)
        self._add("added", self._found["replay"][-1] - own_ns / 1e9)
        self._timed("down", lambda: world.orchestrator("down").ok())
        self._timed("warm", lambda: world.orchestrator("up").ok())
        self._add("warm ratio", self._last("up"))
        world.orchestrator("down", "--volumes").ok()
        self._timed("help", lambda: run(sys.executable, "-m", "orchestrator", "--help").ok())

    @property
    def _journal(self) -> Path:
        return self._world.state / f"shop@{self._world.host}" / "journal.jsonl"

    def _cpu_since(self, before: resource.struct_rusage) -> float:
        """Of the command with the jobs that it waited for, and of all services so far."""
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
        services = 0.0
        for name in load_stack(SHOP)[0].services:
            for pid in self._world.sandbox_pids(name):
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    services += cpu_s(pid)
        return own + services

    def _last(self, command: str) -> float:
        """The last run's wall time ÷ the nodes' own time along its critical path."""
        return last_times(self._journal)[command].ratio

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        begun = time.perf_counter()
        work()
        self._add(name, time.perf_counter() - begun)

    def _add(self, name: str, value: float) -> None:
        self._found.setdefault(name, []).append(value)

    def rows(self) -> list[Row]:
        def seconds(name: str, key: str, target: Bound | None = None) -> Row:
            return Row(name, self._found[key], "s", target)

        def milliseconds(name: str, key: str, target: Bound | None = None) -> Row:
            return Row(name, [value * 1e3 for value in self._found[key]], "ms", target)

        cold = seconds(COLD, "cold", at_most(1.1))
        sequential = seconds("the same programs by a sequential shell script", "sequential")
        return [
            cold,
            sequential,
            seconds("processor time of all that a cold `up` starts", "cpu"),
            Row(
                "the same ÷ cores: no start is faster",
                [value / (os.cpu_count() or 1) for value in self._found["cpu"]],
                "s",
            ),
            ratio("`up`, cold ÷ the script", cold, sequential, at_most(0.5)),
            seconds("`up`, warm: data is there", "warm", at_most(0.8)),
            seconds("`up`, nothing to do", "again"),
            Row("wall ÷ critical path, cold", self._found["cold ratio"], "×", at_most(1.05)),
            Row("wall ÷ critical path, warm", self._found["warm ratio"], "×", at_most(1.05)),
            seconds("`down`", "down", at_most(0.6)),
            seconds(f"`replay {LAYER}`", "replay"),
            milliseconds("the layer's own start in it", "own"),
            milliseconds("what `replay` adds to that", "added", at_most(ADDED_MS)),
            Row("ready to known to be ready, p99", self.lags_ms, "ms", at_most(10)),
            milliseconds("`status`", "status", at_most(150)),
            milliseconds("`--help`", "help", at_most(100)),
        ]

    def notes(self) -> list[str]:
        return [METHOD, COMPOSE, "The critical path of a cold `up`:"]
