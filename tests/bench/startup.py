"""The platform's commands: cold and warm `up`, `down`, `replay` of a layer, `status`, `--help`."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from names import next_name
from rig import ROOT, SHOP, World, run

from bench import compose
from bench.lag import p99_ms
from bench.resident import cpu_s
from bench.rows import Bound, Row, Section, at_most, ratio
from orchestrator.app import load_stack
from orchestrator.sights.timings import last_times

HERE = Path(__file__).parent
COLD = "`up`, cold: prepared data directory, migrations, to the first 200"
INITDB = "`up`, cold, nothing prepared: initdb, migrations, to the first 200"
LAYER, ITS_SERVICE = "gateway", "service:api-gateway"
ADDED_MS = 100  # what `replay` may take beyond the layer's own start

METHOD = (
    "Whole commands, the interpreter's start included, on a private host, without a supervisor "
    "where none is named: it starts once the platform serves. Cold means an empty state "
    "directory. The run directory is in memory, as /run is where systemd(1) mounts it. What "
    "`initdb` makes lies prepared on this machine (`orchestrator prepare`, which `make up` runs "
    "when it installs) and is copied, made durable and given the lab's password; where nothing "
    "is prepared `initdb` is run. The targets for a cold `up` are for the first, the time also "
    "for the second; the script runs `initdb`. Every cold start has a directory of its own, and "
    "none is deleted before the end, since a file system that has just lost a thousand files is "
    "slow to make others. The script starts the same programs one after the other, without "
    "sandboxes ([sequential.sh](../tests/bench/sequential.sh))."
)


def measure(rounds: int) -> Section:
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
    ):
        place = Path(directory)
        place.chmod(0o755)
        Path(memory).chmod(0o755)
        built = World.build(next_name(), place)
        world = replace(built, cache=place / "cache", run_dir=Path(memory, "run"))
        try:
            world.orchestrator("prepare").ok()
            shop = _Shop(world)
            for number in range(rounds):
                shop.round(place / f"round-{number}")
        finally:
            shop.world.orchestrator("down")
            world.remove()
    shop.lags_ms = p99_ms(rounds)
    shop.compose_s, shop.no_compose = compose.measure(rounds)
    return Section("Platform", shop.rows(), shop.notes(), listing=shop.chain)


def sequential_s(work: Path) -> float:
    """Seconds of the shell script's cold start in that directory, on a host of its own."""
    work.mkdir(mode=0o755, parents=True)
    world = World.build(next_name(), work)
    try:
        begun = time.perf_counter()
        words = [HERE / "sequential.sh", world.host, work, ROOT / "services"]
        there = ["nsenter", f"--net=/run/netns/{world.host}", "bash"]
        run(*there, *words, Path(sys.executable).parent).ok()
        return time.perf_counter() - begun
    finally:
        run("bash", work / "stop.sh")
        for service in load_stack(SHOP)[0].stack.services:
            run("ip", "netns", "delete", f"{world.host}.{service}")
        world.remove()


class _Shop:
    """The rounds' figures by what was measured."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._found: dict[str, list[float]] = {}
        self.lags_ms: list[float] = []
        self.compose_s: list[float] = []
        self.no_compose = ""
        self.chain = ""  # of the last cold start

    def round(self, place: Path) -> None:
        """One round with a state directory that is not there yet."""
        place.mkdir(mode=0o755)
        bare = replace(self.world, state=place / "bare", cache=place / "nothing-prepared")
        self._timed("initdb", lambda: bare.orchestrator("up").ok())
        bare.orchestrator("down").ok()
        world = self.world = replace(self.world, state=place / "state")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._timed("cold", lambda: world.orchestrator("up").ok())
        self._add("cpu", self._cpu_since(before))
        self._add("cold ratio", self._last("up"))
        self.chain = world.orchestrator("analyze", "critical-chain").ok().out
        self._add("sequential", sequential_s(place / "sequential"))
        self._timed("again", lambda: world.orchestrator("up").ok())
        self._timed("look", lambda: world.orchestrator("status").ok())
        self._replayed("alone")
        self._timed("down", lambda: world.orchestrator("down").ok())
        self._timed("warm", lambda: world.orchestrator("up").ok())
        self._add("warm ratio", self._last("up"))
        world.orchestrator("down").ok()
        self._timed("supervised", lambda: world.orchestrator("up", "--supervise").ok())
        world.orchestrator("status").ok()  # by then the supervisor answers
        self._timed("status", lambda: world.orchestrator("status").ok())
        self._replayed("asked")
        world.orchestrator("down").ok()
        self._timed("help", lambda: run(sys.executable, "-m", "orchestrator", "--help").ok())

    def _replayed(self, how: str) -> None:
        """`replay` of one layer: as a whole, its own start, and what is added to that."""
        self._timed(f"replay {how}", lambda: self.world.orchestrator("replay", LAYER).ok())
        own_ns = last_times(self._journal)["replay"].nodes[ITS_SERVICE].own_ns
        self._add(f"own {how}", own_ns / 1e9)
        self._add(f"added {how}", self._found[f"replay {how}"][-1] - own_ns / 1e9)

    @property
    def _journal(self) -> Path:
        return self.world.state / f"shop@{self.world.host}" / "journal.jsonl"

    def _cpu_since(self, before: resource.struct_rusage) -> float:
        """Of the command with the jobs that it waited for, and of all services so far."""
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
        services = 0.0
        for name in load_stack(SHOP)[0].stack.services:
            for pid in self.world.sandbox_pids(name):
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
            seconds(INITDB, "initdb", at_most(1.1)),
            sequential,
            seconds("processor time of all that a cold `up` starts", "cpu"),
            Row(
                "the same ÷ cores: no start is faster",
                [value / (os.cpu_count() or 1) for value in self._found["cpu"]],
                "s",
            ),
            ratio("`up`, cold ÷ the script", cold, sequential, at_most(0.5)),
            *self._by_compose(cold),
            seconds("`up`, warm: data is there", "warm", at_most(0.8)),
            seconds("`up`, warm, with its supervisor", "supervised"),
            seconds("`up`, nothing to do", "again"),
            Row("wall ÷ critical path, cold", self._found["cold ratio"], "×", at_most(1.05)),
            Row("wall ÷ critical path, warm", self._found["warm ratio"], "×", at_most(1.05)),
            seconds("`down`", "down", at_most(0.6)),
            seconds(f"`replay {LAYER}`", "replay asked"),
            milliseconds("the layer's own start in it", "own asked"),
            milliseconds("what `replay` adds to that", "added asked", at_most(ADDED_MS)),
            milliseconds("what it adds without a supervisor", "added alone"),
            Row("ready to known to be ready, p99", self.lags_ms, "ms", at_most(10)),
            milliseconds("`status`", "status", at_most(150)),
            milliseconds("`status` without a supervisor", "look"),
            milliseconds("`--help`", "help", at_most(100)),
        ]

    def _by_compose(self, cold: Row) -> list[Row]:
        if not self.compose_s:
            return []
        by_compose = Row("the same programs by Docker Compose", self.compose_s, "s")
        return [by_compose, ratio("`up`, cold ÷ Docker Compose", cold, by_compose)]

    def notes(self) -> list[str]:
        left_out = [f"Docker Compose is left out: {self.no_compose}."] if self.no_compose else []
        return [METHOD, *left_out, "The critical path of a cold `up`:"]
