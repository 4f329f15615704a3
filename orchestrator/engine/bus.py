"""Hands each event to each sight, in order; a sight that breaks never stops the run."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.events import Event, Record

Sight = Callable[[Record], None]


class Bus:
    """Gives events their place (sequence, run, times) and tells every sight."""

    def __init__(
        self,
        run: str,
        *,
        first_seq: int,
        broken: Callable[[str], None],
        wall_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.run = run
        self._seq = first_seq
        self._broken = broken
        self._wall_ns, self._mono_ns = wall_ns, mono_ns
        self._sights: list[Sight] = []

    def add(self, sight: Sight) -> None:
        self._sights.append(sight)

    def emit(self, event: Event) -> None:
        """Returns when every sight has it; the journal's sight has then written it."""
        record = Record(self._seq, self.run, self._wall_ns(), self._mono_ns(), event)
        self._seq += 1
        for sight in list(self._sights):
            try:
                sight(record)
            except Exception as error:  # noqa: BLE001 - whatever a sight does wrong is its own
                self._sights.remove(sight)
                self._broken(f"{getattr(sight, '__qualname__', type(sight).__name__)}: {error}")
