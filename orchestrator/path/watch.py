"""Keeps the request path in view: reads the edge's log, sends a request of its own each second."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
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

READ_EVERY_S = 0.25
PROBE_EVERY_S = 1.0
MANY = 1000
FEW = 3  # as many as there are in a second while nobody but ourselves asks anything


class PathWatch:
    """One edge's requests, added up."""

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

    async def run(self) -> None:
        """Until it is cancelled; then what was read is saved."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._each_second())
        finally:
            with contextlib.suppress(OSError):
                self.reader.save()

    async def _read(self) -> None:
        while True:
            count = 0
            with contextlib.suppress(OSError):  # a full disk loses the saving, not the reading
                count = self.reader.read()
            if count > MANY:  # after a long absence: others get their turn in between
                await asyncio.sleep(0)
            else:
                await beat(READ_EVERY_S if count > FEW else PROBE_EVERY_S)

    async def _each_second(self) -> None:
        while True:
            self._window.note(self.reader.totals, time.monotonic())
            if self.prober is not None:
                await self.prober.probe()
            # Not on the beat of all others, who would be in its way and in its times.
            await beat(PROBE_EVERY_S, after_s=PROBE_EVERY_S / 2)

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
        return self._window.document(self.reader.totals, self.reader.traces.recent())

    def traces(self) -> list[dict[str, Any]]:
        """Kept requests, the newest first."""
        return [trace_row(at_s, request) for at_s, request in self.reader.traces.recent()]

    def trace(self, word: str) -> dict[str, Any] | None:
        """`last` of a user, or the one whose id begins so, as a waterfall."""
        if word == "last":
            rows = (pair for pair in self.reader.traces.recent() if not pair[1].is_own)
            found = next(rows, None)
        else:
            found = self.reader.find(word)
        return None if found is None else waterfall(*found)
