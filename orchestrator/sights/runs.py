"""Recorded runs, found without decoding the whole journal: it is read line by line, and only
the lines that are asked for become records.

Lines are chosen by bytes that `encode` writes and that no text inside a line can contain, since
its quotes are escaped. What is chosen is decoded, and left out if it is damaged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import UsageError
from orchestrator.events import Outcome, Record, RunFinished, RunStarted, decode
from orchestrator.sights.phases import RunSpan, fold

RUN_STARTED, RUN_FINISHED = b'"event":"RunStarted"', b'"event":"RunFinished"'
RUN = re.compile(rb'\{"seq":\d+,"run":"([^"\\]*)"')
LAST = "last"


class Head(Struct, frozen=True):
    """A run's first line; its place in the list tells its age."""

    run: str
    command: str
    begun_wall_ns: int
    outcome: str  # empty if no end is recorded


def heads(path: Path) -> list[Head]:
    """Every run, the oldest first; empty if there is no journal."""

    def wanted(line: bytes) -> bool:
        return (RUN_STARTED in line or RUN_FINISHED in line) and bool(RUN.match(line))

    found: list[Head] = []
    outcomes: dict[str, str] = {}
    for record in _chosen(path, wanted):
        if isinstance(record.event, RunStarted):
            found.append(Head(record.run, record.event.command, record.wall_ns, ""))
        elif isinstance(record.event, RunFinished):
            outcomes[record.run] = record.event.outcome
    return [replace(head, outcome=outcomes.get(head.run, "")) for head in found]


def load(path: Path, runs: Collection[str]) -> dict[str, RunSpan]:
    """These runs with their phases, in the order in which they began."""
    marks = {run.encode() for run in runs}
    records: dict[str, list[Record]] = {}

    def wanted(line: bytes) -> bool:
        found = RUN.match(line)
        return found is not None and found[1] in marks

    for record in _chosen(path, wanted):
        if record.run in records:
            records[record.run].append(record)
        elif isinstance(record.event, RunStarted):
            records[record.run] = [record]
    return {run: fold(found) for run, found in records.items()}


def choose(known: list[Head], word: str, *, command: str) -> str:
    """The run that is meant: a beginning of its id, `last`, or without a word the command's last
    run that did anything, its last one if none did. Raises UsageError."""
    if not known:
        raise UsageError("no run is recorded yet; `orchestrator up` makes the first")
    if word == LAST:
        return known[-1].run
    if not word:
        of_it = [head for head in known if head.command == command]
        if not of_it:
            there = ", ".join(sorted({head.command for head in known}))
            raise UsageError(f"no run of {command!r} is recorded; there are runs of: {there}")
        return ([head for head in of_it if head.outcome != Outcome.UNCHANGED] or of_it)[-1].run
    found = [head.run for head in known if head.run.startswith(word)]
    if word in found:
        return word
    if not found:
        raise UsageError(f"unknown run {word}; `orchestrator analyze runs` lists those there are")
    if len(found) > 1:
        several = ", ".join(found[-5:])
        raise UsageError(f"{word} is the beginning of {len(found)} runs, the last: {several}")
    return found[0]


def _chosen(path: Path, wanted: Callable[[bytes], bool]) -> Iterator[Record]:
    """Records of the lines that are wanted; a torn or damaged one is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if line.endswith(b"\n") and wanted(line):
                try:
                    yield decode(line.decode(errors="replace"))
                except (ValueError, TypeError, RecursionError):
                    continue
