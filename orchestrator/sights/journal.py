"""The journal: append-only JSON lines, read again by everything that looks back.

No resource trusts it over what it observes, so a damaged line costs history and nothing
else: readers count and skip it. A torn last line is what a crash leaves and no damage.
What happens to the file while we write (taken away, cut, a full disk) costs what could not
be written, never the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from orchestrator.events import Record, RunFinished, RunStarted, decode, encode

FOLLOW_INTERVAL_S = 0.05
LINE_LIMIT_BYTES = 1 << 20  # ours are a few hundred bytes; what is longer is no record
LOOK_NS = 10_000_000  # how often it is looked whether the file is still there
TAILS_BYTES = (1 << 13, 1 << 18)  # thirty records, a thousand: where the last number is sought

# Kernel objects are gone after a power cut anyway, and kill -9 loses nothing that was
# written, so only the ends of a run are worth a sync of the disk.
SYNCED = (RunStarted, RunFinished)


class Journal:
    """Appends records; each is with the kernel when `append` returns.

    `complain` hears once why records are lost, and once how many were when that is over.
    """

    def __init__(self, path: Path, complain: Callable[[str], None] = lambda _: None) -> None:
        self._path, self._complain = path, complain
        self._descriptor: int | None = None
        self._looked_ns = 0
        self._whole = False  # whether the file ends with a whole line
        self._lost = 0

    def append(self, record: Record) -> None:
        """Never raises OSError: a run goes on without its journal."""
        try:
            descriptor = self._file(record.mono_ns)
            if not self._whole:
                _write(descriptor, b"\n")  # shut a torn line off from what follows
                self._whole = True
            self._whole = False
            _write(descriptor, (encode(record) + "\n").encode(errors="replace"))
            self._whole = True
            if isinstance(record.event, SYNCED):
                os.fsync(descriptor)
        except OSError as error:
            if not self._lost:
                self._complain(
                    f"the journal {self._path} cannot be written: {error.strerror}; "
                    "the run goes on, this part of its history is lost"
                )
            self._lost += 1
            return
        if self._lost:
            self._complain(f"the journal is written again; {self._lost} records are missing")
            self._lost = 0

    def _file(self, now_ns: int) -> int:
        """The descriptor of the file that has the name, as of a moment ago."""
        if self._descriptor is not None:
            if now_ns - self._looked_ns < LOOK_NS:
                return self._descriptor
            self._looked_ns = now_ns
            if os.fstat(self._descriptor).st_nlink:
                return self._descriptor
            self.close()  # somebody took it away: what we wrote would go nowhere
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        self._whole = not size or os.pread(self._descriptor, 1, size - 1) == b"\n"
        return self._descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _write(descriptor: int, data: bytes) -> None:
    """All of it; on a disk that fills up the first call may write a part."""
    while data:
        data = data[os.write(descriptor, data) :]


class History(Struct, frozen=True):
    """What the journal holds: whole records, and how many lines were damaged."""

    records: tuple[Record, ...]
    damaged: int

    @property
    def next_seq(self) -> int:
        return max((record.seq for record in self.records), default=-1) + 1


def read(path: Path) -> History:
    """Every record; a torn last line is left out, other unreadable lines are counted."""
    found = list(_read(path))
    records = tuple(record for record in found if record is not None)
    return History(records, len(found) - len(records))


def damaged(path: Path) -> int:
    """How many lines `read` leaves out, without keeping the others."""
    return sum(record is None for record in _read(path))


def _read(path: Path) -> Iterator[Record | None]:
    """Every record; None for a damaged line. Empty ones are none."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in _whole_lines(file):
            record = _record(line)
            if record is not None or line is None or line.strip():
                yield record


def next_seq(path: Path) -> int:
    """The number after the highest of the last records: the whole file is read only where
    its end holds none. 0 if there is no journal that can be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            for start in (*(max(0, size - tail) for tail in TAILS_BYTES), 0):
                file.seek(start)
                numbers = [record.seq for line in _whole_lines(file) if (record := _record(line))]
                if numbers or not start:
                    return max(numbers, default=-1) + 1
    except OSError:
        pass
    return 0


def _whole_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Lines that have their end; None for one that is too long to be a record."""
    too_long = False
    while part := file.readline(LINE_LIMIT_BYTES):
        ends = part.endswith(b"\n")
        if too_long or not ends:
            if ends:
                yield None
            too_long = not ends
            continue
        yield part


def _record(line: bytes | None) -> Record | None:
    """None for what is no record: damage in the middle of a file has every shape."""
    if line is None:
        return None
    try:
        return decode(line.decode())
    except (ValueError, TypeError, RecursionError):
        return None


class Tail:
    """Reads on from where it was; begins anew where the file was cut or replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest, self._offset, self._inode = b"", 0, 0

    def is_behind(self) -> bool:
        """Whether there is something to read; cheaper than to read nothing."""
        try:
            seen = self._path.stat()
        except FileNotFoundError:
            return False
        return (seen.st_ino, seen.st_size) != (self._inode, self._offset)

    def read(self) -> tuple[list[Record], bool]:
        """Records that came since the last call, and whether there may be more already."""
        data = b""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            seen = os.fstat(file.fileno())
            if seen.st_ino != self._inode or seen.st_size < self._offset:
                self._rest, self._offset, self._inode = b"", 0, seen.st_ino
            file.seek(self._offset)
            data = file.read(LINE_LIMIT_BYTES)
        self._offset += len(data)
        *whole, rest = (self._rest + data).split(b"\n")
        # What is too long to be a record is none, whatever may still follow.
        self._rest = b"?" if len(rest) > LINE_LIMIT_BYTES else rest
        found = [record for line in whole if (record := _record(line)) is not None]
        return found, bool(data)


async def follow(path: Path) -> AsyncIterator[Record]:
    """Every record, those that are there and those that come."""
    tail = Tail(path)
    while True:
        records, is_more = tail.read()
        for record in records:
            yield record
        if not is_more:
            await asyncio.sleep(FOLLOW_INTERVAL_S)
