"""The journal as a stream of Server-Sent Events, resumed where a reader left off.

https://html.spec.whatwg.org/multipage/server-sent-events.html. The id of a message is
`JOURNAL-SEQ`: a journal that was removed and begun anew counts from 0 again, so a number
alone would not say where a reader is.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import Struct, field

from orchestrator.sights import journal

POLL_S = 0.04  # between two looks at the file's size, while somebody reads
BEAT_S = 4.0
FIRST_BLOCK_BYTES = 64 * 1024
SEQ = re.compile(rb'^\{"seq":(\d+),')  # as `events.encode` writes it
WALL = re.compile(rb'"wall_ns":(\d+)')
ID = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,18})")


class Position(Struct, frozen=True):
    """Which journal, and the last record in it; -1 where there is none."""

    journal: str
    seq: int

    def __str__(self) -> str:
        return f"{self.journal}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """None for what is no position."""
        match = ID.fullmatch(text)
        return cls(match[1], int(match[2])) if match else None


def position(path: Path) -> Position:
    """Where the journal ends now."""
    lines = _tail(path, None).lines
    return Position(_name(path), seq_of(lines[-1]) if lines else -1)


def seq_of(line: bytes) -> int:
    """The number of a record; -1 for a damaged line."""
    match = SEQ.match(line)
    return int(match[1]) if match else -1


def _name(path: Path) -> str:
    """What tells this journal from the one before: the time of its first record."""
    try:
        with path.open("rb") as file:
            match = WALL.search(file.readline())
    except FileNotFoundError:
        match = None
    return f"{int(match[1]) if match else 0:x}"


class Tail(Struct, frozen=True):
    """The last whole lines of a file, the offset behind them, and which file it was."""

    lines: list[bytes]
    end: int = 0
    inode: int = 0


def _tail(path: Path, seq: int | None) -> Tail:
    """The records after `seq`; without one, those of the last block."""
    block = FIRST_BLOCK_BYTES
    while True:
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = max(0, size - block)
                file.seek(start)
                data = file.read(size - start)
                inode = os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return Tail([])
        lines = data.split(b"\n")[:-1]
        if start:
            lines = lines[1:]  # cut in two by the block's edge
        if not start or (lines and (seq is None or 0 <= seq_of(lines[0]) <= seq + 1)):
            break
        block *= 4
    end = start + data.rfind(b"\n") + 1
    return Tail([line for line in lines if seq is None or seq_of(line) > seq], end, inode)


class Message(Struct):
    """One message; `text` is a JSON document on one line."""

    kind: str
    text: str
    id: str = ""

    def encode(self) -> bytes:
        head = f"id: {self.id}\n" if self.id else ""
        if self.kind != "message":
            head += f"event: {self.kind}\n"
        return f"{head}data: {self.text}\n\n".encode()


class Feed(Struct):
    """Reads one journal for one reader."""

    path: Path
    _offset: int = 0
    _inode: int = 0
    _journal: str = ""
    _rest: bytes = b""
    _quiet_since_s: float = field(default_factory=time.monotonic)

    async def follow(self, since: Position | None, *, last: int) -> AsyncIterator[Message]:
        """Records after `since`, or the `last` ones where that is of another journal; then
        those that come. A `beat` where nothing does, `reset` when the journal begins anew."""
        for message in await asyncio.to_thread(self._first, since, last):
            yield message
        while True:
            for message in self._more():
                yield message
                self._quiet_since_s = time.monotonic()
            if time.monotonic() - self._quiet_since_s >= BEAT_S:
                self._quiet_since_s = time.monotonic()
                yield Message("beat", "{}")
            await asyncio.sleep(POLL_S)

    def _first(self, since: Position | None, last: int) -> list[Message]:
        self._journal = _name(self.path)
        known = since is not None and since.journal == self._journal
        start = since.seq if known and since else position(self.path).seq - last
        tail = _tail(self.path, max(start, -1))
        self._inode, self._offset = tail.inode, tail.end
        found = [] if known or since is None else [Message("reset", "{}")]
        return found + [self._message(line) for line in tail.lines if seq_of(line) >= 0]

    def _more(self) -> list[Message]:
        """What was appended since; a journal in the place of the former begins at its start."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return []
        found = []
        if status.st_ino != self._inode or status.st_size < self._offset:
            anew = self._inode != 0
            self._inode, self._offset, self._rest = status.st_ino, 0, b""
            self._journal = _name(self.path)
            found += [Message("reset", "{}")] if anew else []
        if status.st_size == self._offset:
            return found
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        return found + [self._message(line) for line in whole if seq_of(line) >= 0]

    def _message(self, line: bytes) -> Message:
        text = line.decode(errors="replace")
        return Message("message", text, str(Position(self._journal, seq_of(line))))


class Chronicle(Struct):
    """The journal's records, read again only when it has changed."""

    path: Path
    _seen: tuple[int, int] | None = None
    _history: journal.History = field(default_factory=lambda: journal.History((), 0))

    async def read(self) -> journal.History:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return journal.History((), 0)
        now = (status.st_ino, status.st_size)
        if now != self._seen:
            self._history = await asyncio.to_thread(journal.read, self.path)
            self._seen = now
        return self._history

    def forget(self) -> None:
        """Gives the memory back: nobody reads now."""
        self._seen, self._history = None, journal.History((), 0)
