"""The journal: append-only JSON lines, read again by everything that looks back.

No resource trusts it over what it observes, so a damaged line costs history and nothing
else: readers count and skip it. A torn last line is what a crash leaves and no damage.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.events import Record, RunFinished, RunStarted, decode, encode

FOLLOW_INTERVAL_S = 0.05

# Kernel objects are gone after a power cut anyway, and kill -9 loses nothing that was
# written, so only the ends of a run are worth a sync of the disk.
SYNCED = (RunStarted, RunFinished)


class Journal:
    """Appends records; each is with the kernel when `append` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # shut a torn line off from what follows

    def append(self, record: Record) -> None:
        """Raises OSError if the disk is full."""
        line = (encode(record) + "\n").encode()
        if os.write(self._descriptor, line) != len(line):
            raise OSError("the journal could not be written whole")
        if isinstance(record.event, SYNCED):
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class History:
    """What the journal holds: whole records, and how many lines were damaged."""

    records: tuple[Record, ...]
    damaged: int

    @property
    def next_seq(self) -> int:
        return max((record.seq for record in self.records), default=-1) + 1


def read(path: Path) -> History:
    """Every record; a torn last line is left out, other unreadable lines are counted."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return History((), 0)
    *whole, _torn = text.split("\n")
    records, damaged = [], 0
    for line in whole:
        if not line:
            continue
        try:
            records.append(decode(line))
        except ValueError:
            damaged += 1
    return History(tuple(records), damaged)


async def follow(path: Path) -> AsyncIterator[Record]:
    """Every record, those that are there and those that come."""
    rest, offset = b"", 0
    while True:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            data = b""
        offset += len(data)
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            try:
                yield decode(line.decode(errors="replace"))
            except ValueError:
                continue
        if not data:
            await asyncio.sleep(FOLLOW_INTERVAL_S)
