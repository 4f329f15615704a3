"""wrk, the load generator: keep-alive connections from the lab's host, one thread.

https://github.com/wg/wrk, in Debian as `wrk`: 2 to 10 µs of CPU for each request, so that it
is not what is measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rig import Done

SCRIPT = Path(__file__).with_name("load.lua")
CONNECTIONS = 50


@dataclass(frozen=True)
class Load:
    """What a slice of load has measured. `refused` had a status of 400 or more."""

    requests: int
    duration_us: int
    refused: int
    lost: int
    p50_us: int
    p99_us: int

    def __add__(self, other: Load) -> Load:
        """Both slices as one; of the times the longer ones."""
        return Load(
            self.requests + other.requests,
            self.duration_us + other.duration_us,
            self.refused + other.refused,
            self.lost + other.lost,
            max(self.p50_us, other.p50_us),
            max(self.p99_us, other.p99_us),
        )

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return (self.requests - self.refused) / self.duration_us * 1e6


class Run(Protocol):
    """Runs a command in a namespace: `World.on_host`, or inside of a service's."""

    def __call__(self, *words: str | Path) -> Done: ...


def get(run: Run, url: str, *, seconds: int) -> Load:
    """GETs of one URL."""
    return _wrk(run, url, seconds, "GET", "")


def post(run: Run, url: str, *, customer: str, seconds: int) -> Load:
    """Orders of this customer, each with an Idempotency-Key of its own."""
    return _wrk(run, url, seconds, "POST", customer)


def _wrk(run: Run, url: str, seconds: int, *arguments: str) -> Load:
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s"]
    done = run(*words, "-s", SCRIPT, url, "--", *arguments).ok()
    return Load(**json.loads(done.out.splitlines()[-1]))
