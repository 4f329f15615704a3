"""A process on a world's host that takes the kernel's view when asked, with a clock of ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from books import restock
from prometheus_client.parser import text_string_to_metric_families
from rig import SHOP, World

from orchestrator.exposition import Sheet

LOAD = Path(__file__).parent / "load.py"
Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Look:
    """One exposition, and what it cost."""

    text: str
    cpu_ms: float = 0.0  # of the refresh, its children included
    descriptors: int = 0  # that the process has open

    @cached_property
    def samples(self) -> dict[Key, float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }

    @cached_property
    def totals(self) -> dict[Key, float]:
        return {key: value for key, value in self.samples.items() if key[0].endswith("_total")}

    def value(self, name: str, **labels: str) -> float:
        return self.samples[f"orchestrator_{name}", frozenset(labels.items())]


class Viewer:
    """Asks that process."""

    def __init__(self, world: World, *, stack: Path = SHOP) -> None:
        options = world.words("status", stack=stack)[4:]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    def look(self, *, after_s: float = 1.0) -> Look:
        """A refresh when its clock has gone on by that much."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{after_s}\n")
        self._process.stdin.flush()
        return Look(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


@contextlib.contextmanager
def load(world: World, clients: int = 4) -> Iterator[dict[str, int]]:
    """For the length of the block; every request was answered well. Afterwards it is known
    how many there were, by status."""
    codes: dict[str, int] = {}
    restock(world)
    words = ["ip", "netns", "exec", world.host, sys.executable, str(LOAD), str(clients)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield codes
        finally:
            out, _ = process.communicate()
    codes |= json.loads(out)["codes"]
    assert set(codes) <= {"200", "201"}, codes


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def serve(options: list[str]) -> None:
    """The viewer's own process."""
    from orchestrator.commands.target import Target
    from orchestrator.view.kernelview import KernelView

    given: dict[str, Any] = dict(zip(options[::2], options[1::2], strict=True))
    app = Target(
        Path(given["--stack"]),
        given["--host-netns"],
        Path(given["--state-dir"]),
        Path(given["--run-dir"]),
    ).enter()
    now = [0.0]
    view = KernelView(app, clock=lambda: now[0])
    sheet = Sheet(is_open=False)
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            now[0] += float(line)
            begun = cpu_s()
            runner.run(view.refresh())
            cpu_ms = (cpu_s() - begun) * 1e3
            descriptors = len(list(Path("/proc/self/fd").iterdir()))
            text = sheet.text(view.collector.families())
            answer = {"text": text, "cpu_ms": cpu_ms, "descriptors": descriptors}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    serve(sys.argv[1:])
