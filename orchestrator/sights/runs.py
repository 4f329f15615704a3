"""Recorded runs, found without decoding the whole journal: it is read line by line, and only
the lines that are asked for become records.

Lines are chosen by bytes that `encode` writes and that no text inside a line can contain, since
its quotes are escaped. What is chosen is decoded, and left out if it is damaged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.events import Record, RunStarted, decode
from orchestrator.sights.phases import RunSpan, fold

RUN_STARTED = b'"event":"RunStarted"'
RUN = re.compile(rb'\{"seq":\d+,"run":"([^"\\]*)"')
LAST = "last"


@dataclass(frozen=True, slots=True)
class Head:
    """A run's first line; its place in the list tells its age."""

    run: str
    command: str
    begun_wall_ns: int


def heads(path: Path) -> list[Head]:
    """Every run, the oldest first; empty if there is no journal."""
    return [
        Head(record.run, record.event.command, record.wall_ns)
        for record in _chosen(path, lambda line: RUN_STARTED in line and bool(RUN.match(line)))
        if isinstance(record.event, RunStarted)
    ]


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
    """The run that is meant: a beginning of its id, `last`, or the last run of the command if
    the word is empty. Raises UsageError."""
    if not known:
        raise UsageError("no run is recorded yet; `orchestrator up` makes the first")
    if word == LAST:
        return known[-1].run
    if not word:
        found = [head.run for head in known if head.command == command]
        if not found:
            there = ", ".join(sorted({head.command for head in known}))
            raise UsageError(f"no run of {command!r} is recorded; there are runs of: {there}")
        return found[-1]
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
