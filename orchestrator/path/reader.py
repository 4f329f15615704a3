"""Reads the edge's log of requests as it grows, adds it up, and loses nothing.

Position and totals are saved together, so whoever reads next goes on exactly there: a line
that was logged counts once, also when the supervisor was stopped or killed meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from orchestrator.path.spans import EXACT_US, Request, parse, parse_counted, shares
from orchestrator.path.totals import Totals

ROTATE_BYTES = 16_000_000
CHUNK_BYTES = 500_000  # about 25 ms of work
# What is not saved is only read again by the next reader: a second's work at most.
SAVE_EVERY_S, SAVE_SELDOM_S = 1.0, 30.0
SAVE_LINES = 1000
KEPT, KEPT_LAST, KEPT_OWN = 1000, 100, 100


class Traces:
    """Requests that can be looked at again: the last ones, and 1 in N over a longer time.

    Which ones is said by the trace id alone, so every hop of a path would choose the same.
    Our own requests come each second: they never take the place of a user's.
    """

    def __init__(self, one_in: int) -> None:
        self._one_in = one_in
        self._last: deque[tuple[float, Request]] = deque(maxlen=KEPT_LAST)
        self._kept: deque[tuple[float, Request]] = deque(maxlen=KEPT)
        self._own: deque[tuple[float, Request]] = deque(maxlen=KEPT_OWN)

    def add(self, request: Request, at_s: float) -> None:
        if request.is_own:
            self._own.append((at_s, request))
            return
        self._last.append((at_s, request))
        with contextlib.suppress(ValueError):
            if int(request.trace[-8:], 16) % self._one_in == 0:
                self._kept.append((at_s, request))

    def recent(self) -> list[tuple[float, Request]]:
        """All that are kept, the newest first: wall clock in seconds, request."""
        found = {each.trace: (at_s, each) for at_s, each in [*self._kept, *self._last, *self._own]}
        return sorted(found.values(), key=lambda pair: -pair[0])


class Reader:
    """One log. `read` is called often; it does nothing when nothing was written."""

    def __init__(
        self,
        log: Path,
        edge: str,
        *,
        reopen: Callable[[], None],
        one_in: int,
        own: Callable[[Request], None],
    ) -> None:
        """`reopen` asks the writer to open its log again; `own` hears of every request."""
        self._log, self._edge, self._reopen, self._own = log, edge, reopen, own
        self._old = log.with_suffix(log.suffix + ".1")
        self._state = log.with_name("totals.json")
        self._offsets: dict[str, int] = {}  # by inode
        self.totals = Totals()
        self.traces = Traces(one_in)
        self._saved_s = 0.0
        self._unsaved = 0  # lines
        self._load()

    def find(self, trace: str) -> tuple[float, Request] | None:
        """A request by its id or the beginning of it: of those kept the newest, or an exemplar."""
        shown = (
            (each.at_s, each.request)
            for buckets in self.totals.exemplars.values()
            for each in buckets.values()
        )
        pairs = chain(self.traces.recent(), shown)
        return next((pair for pair in pairs if pair[1].trace.startswith(trace)), None)

    def read(self) -> int:
        """Adds up what is new; returns how many requests."""
        count = 0
        for path in (self._old, self._log):  # what was put aside may still have a last line
            count += self._read(path)
        if self._is_read(self._log, at_least=ROTATE_BYTES) and self._is_read(self._old):
            self._put_aside()
        elif self._old.exists() and not self._log.exists():
            self._reopen()  # whoever put it aside was killed before this
        now_s = time.monotonic()
        self._unsaved += count
        every_s = SAVE_EVERY_S if self._unsaved >= SAVE_LINES else SAVE_SELDOM_S
        if self._unsaved and now_s > self._saved_s + every_s:
            self.save()
        return count

    def _put_aside(self) -> None:
        """Order matters, since a kill may come in between: the old one's inode is free when it
        is gone, the new log may be given it, and so must be forgotten before there is one."""
        self._old.unlink(missing_ok=True)
        self.save()
        self._log.rename(self._old)
        self._reopen()

    def _is_read(self, path: Path, *, at_least: int = 0) -> bool:
        """Whether so much was read of it; without a number all of it."""
        try:
            seen = path.stat()
        except OSError:
            return not at_least
        return self._offsets.get(str(seen.st_ino), 0) >= (at_least or seen.st_size)

    def _read(self, path: Path) -> int:
        try:
            seen = path.stat()
            if self._offsets.get(str(seen.st_ino), 0) == seen.st_size:
                return 0  # as nearly always; what is renamed meanwhile is seen next time
            with path.open("rb") as file:
                seen = path.stat()
                key = str(seen.st_ino)
                offset = self._offsets.get(key, 0)
                if seen.st_size < offset:
                    offset = 0  # somebody emptied it
                file.seek(offset)
                data = file.read(CHUNK_BYTES)
        except OSError:
            return 0
        end = data.rfind(b"\n") + 1
        self._offsets[key] = offset + end
        lines = data[:end].decode(errors="replace").split("\n")[:-1]
        # Those without a weight are few different ones: milliseconds, and a route.
        counted = Counter(line for line in lines if line[:1] == "\t")
        for line, times in counted.items():
            self._count(line, times)
        for line in lines:
            if line[:1] != "\t":
                self._add(line)
        return len(lines)

    def _count(self, line: str, times: int) -> None:
        try:
            found = parse_counted(line)
        except ValueError:
            self.totals.drop(times)
            return
        self.totals.count(*found, times)

    def _add(self, line: str) -> None:
        try:
            request = parse(line, self._edge)
            found = shares(request)
        except (ValueError, RecursionError):
            self.totals.drop()
            return
        at_s = time.time()
        if request.resolution_us == EXACT_US:  # then it says itself when it was answered
            at_s -= time.monotonic() - request.root.left_us / 1e6
        self.totals.add(request, found, at_s=at_s)
        self.traces.add(request, at_s)
        self._own(request)

    def save(self) -> None:
        """Raises OSError."""
        known = {str(path.stat().st_ino) for path in (self._old, self._log) if path.exists()}
        self._offsets = {key: at for key, at in self._offsets.items() if key in known}
        document = {"offsets": self._offsets, "totals": self.totals.dump()}
        draft = self._state.with_suffix(".new")
        draft.write_text(json.dumps(document))
        draft.rename(self._state)
        self._saved_s, self._unsaved = time.monotonic(), 0

    def _load(self) -> None:
        """What the last reader knew. Without it, or with a damaged one, all is read again."""
        try:
            document: Any = json.loads(self._state.read_text())
            totals = Totals.load(document["totals"])
            offsets = {str(key): int(value) for key, value in document["offsets"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        self.totals, self._offsets = totals, offsets
