"""The platform's commands: cold and warm `up`, `down`, `replay` of a layer, `status`, `--help`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from names import next_name
from rig import World, run

from bench.rows import Bound, Row, Section, at_most
from orchestrator.sights.timings import last_times

LAYER, ITS_SERVICE = "gateway", "service:api-gateway"
ADDED_MS = 100  # what `replay` may take beyond the layer's own start

METHOD = (
    "Whole commands, the interpreter's start included, on a private host. Cold means an empty "
    "state directory: PostgreSQL's data directory is made by initdb. No supervisor: it starts "
    "after the platform serves."
)


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
    return Section("Platform", shop.rows(), shop.notes(), listing=chain)


class _Shop:
    """The rounds' figures by what was measured."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._found: dict[str, list[float]] = {}

    def round(self) -> None:
        world = self._world
        self._timed("cold", lambda: world.orchestrator("up").ok())
        self._add("cold ratio", self._last("up"))
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

        return [
            seconds("`up`, cold: initdb, migrations, to the first 200", "cold", at_most(1.1)),
            seconds("`up`, warm: data is there", "warm", at_most(0.8)),
            seconds("`up`, nothing to do", "again"),
            Row("wall ÷ critical path, cold", self._found["cold ratio"], "×", at_most(1.05)),
            Row("wall ÷ critical path, warm", self._found["warm ratio"], "×", at_most(1.05)),
            seconds("`down`", "down", at_most(0.6)),
            seconds(f"`replay {LAYER}`", "replay"),
            milliseconds("the layer's own start in it", "own"),
            milliseconds("what `replay` adds to that", "added", at_most(ADDED_MS)),
            milliseconds("`status`", "status", at_most(150)),
            milliseconds("`--help`", "help", at_most(100)),
        ]

    def notes(self) -> list[str]:
        return [METHOD, "The critical path of a cold `up`:"]
