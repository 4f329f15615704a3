"""What a person at the terminal sees of a run. Light: `replay` may only watch the supervisor's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from orchestrator.commands.target import is_terminal
from orchestrator.commands.telling import say
from orchestrator.events import Record, StepFinished
from orchestrator.hints import hinted
from orchestrator.sights.console import JsonLines, PlainLines

if TYPE_CHECKING:
    from orchestrator.engine.bus import Sight


class Finished:
    """Keeps how each step ended, for the report."""

    def __init__(self) -> None:
        self.steps: list[StepFinished] = []

    def __call__(self, record: Record) -> None:
        if isinstance(record.event, StepFinished):
            self.steps.append(record.event)


@contextlib.contextmanager
def watching(layers: Mapping[str, str], *, as_json: bool) -> Iterator[list[Sight]]:
    """The sights for one run over these nodes, each with its layer."""
    if as_json:
        yield [JsonLines()]
    elif is_terminal():
        from orchestrator.sights.livetable import LiveTable

        with LiveTable(dict(layers)) as table:
            yield [table]
    else:
        yield [PlainLines()]


def complain(text: str) -> None:
    """A warning."""
    say(f"warning: {hinted(text)}", err=True)
