"""Keeps the request path in view: reads the edge's log, sends a request of its own each second."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.beat import beat
from orchestrator.path.prober import CLIENT, Prober
from orchestrator.path.reader import Reader
from orchestrator.path.spans import Request
from orchestrator.path.view import Window, trace_row, waterfall
from orchestrator.processes import procfs

READ_EVERY_S, REST_S = 0.25, 5.0
MANY = 1000
FEW = 20  # there are not as many in a rest while nobody but ourselves asks anything
NOTE_EVERY_S = 1.0
PROBE_EVERY_S = 1.0


class PathWatch:
    """One edge's requests, added up: now and then, and whenever somebody wants to know."""

    def __init__(
        self,
        edge: str,
        log: Path,
        mark: str,
        *,
        one_in: int,
        probe: tuple[str, Mapping[str, str]] | None,
    ) -> None:
        """`mark` is that of the edge's processes; `probe` the URL and headers of a request."""
        self._mark = mark
        self.reader = Reader(log, edge, reopen=self._reopen, one_in=one_in, own=self._own)
        self.prober = None if probe is None else Prober(*probe, heard=self._heard)
        self._window = Window()
        self._noted_s = -math.inf

    async def run(self) -> None:
        """Until it is cancelled; then what was read is saved."""
        ended = threading.Event()
        if self.prober is not None:
            # A thread of its own: the event loop has other things to do in between, and their
            # time is none of the path's.
            words = (self.prober, ended)
            threading.Thread(target=_each_second, args=words, name="probe", daemon=True).start()
        try:
            while True:
                count = self.refresh()
                if count > MANY:  # after a long absence: others get their turn in between
                    await asyncio.sleep(0)
                else:
                    await beat(READ_EVERY_S if count > FEW else REST_S)
        finally:
            ended.set()
            with contextlib.suppress(OSError):
                self.reader.save()

    def refresh(self) -> int:
        """Takes in what was logged since the last time; returns how many requests."""
        count = 0
        with contextlib.suppress(OSError):  # a full disk loses the saving, not the reading
            count = self.reader.read()
        now_s = time.monotonic()
        if now_s - self._noted_s >= NOTE_EVERY_S:
            self._noted_s = now_s
            self._window.note(self.reader.totals, now_s)
        return count

    def _reopen(self) -> None:
        """SIGUSR1 to the edge's first process: nginx(8) then opens its logs again."""
        for sandbox in procfs.sandboxes(self._mark):
            for pid in procfs.children(sandbox.pid) if sandbox.is_init else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)

    def _own(self, request: Request) -> None:
        if self.prober is not None:
            self.prober.own(request)

    def _heard(self, edge: str, there_us: float, back_us: float) -> None:
        self.reader.totals.way(CLIENT, edge, there_us, back_us)

    def document(self) -> dict[str, Any]:
        """The path over the last seconds; see `Window.document`."""
        self.refresh()
        return self._window.document(self.reader.totals, self.reader.traces.recent())

    def traces(self) -> list[dict[str, Any]]:
        """Kept requests, the newest first."""
        self.refresh()
        return [trace_row(at_s, request) for at_s, request in self.reader.traces.recent()]

    def trace(self, word: str) -> dict[str, Any] | None:
        """`last` of a user, or the one whose id begins so, as a waterfall."""
        self.refresh()
        if word == "last":
            rows = (pair for pair in self.reader.traces.recent() if not pair[1].is_own)
            found = next(rows, None)
        else:
            found = self.reader.find(word)
        return None if found is None else waterfall(*found)


def _each_second(prober: Prober, ended: threading.Event) -> None:
    """Probes until that is set; not on the beat of all others, who would be in its way."""
    while not ended.wait(PROBE_EVERY_S - (time.monotonic() - PROBE_EVERY_S / 2) % PROBE_EVERY_S):
        prober.probe()
