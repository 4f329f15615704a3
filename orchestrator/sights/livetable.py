"""A live table of a run's nodes on a terminal. A module of its own: rich is dear to load."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.events import (
    CancelRequested,
    GateChecked,
    Noticed,
    Outcome,
    Record,
    RunStarted,
    StepFinished,
    StepProvisioned,
    StepQueued,
    StepRetried,
    StepStarted,
)
from orchestrator.terminal import clean

STYLES = {
    "ready": "green",
    "gone": "green",
    "unchanged": "dim",
    "failed": "bold red",
    "skipped": "yellow",
    "cancelled": "yellow",
    "retrying": "yellow",
}


class LiveTable:
    """A table of a run's nodes that changes as they come up. Use as a context manager.

    `layers` has the layer of each node that there may be, in the order of the table.
    """

    def __init__(self, layers: dict[str, str], console: Console | None = None) -> None:
        self._layers = layers
        self._console = console or Console()
        ranks = {layer: rank for rank, layer in enumerate(dict.fromkeys(layers.values()))}
        self._rank = {node: ranks[layer] for node, layer in layers.items()}
        self._state: dict[str, tuple[str, str]] = {}
        self._queued_ns: dict[str, int] = {}
        self._took: dict[str, str] = {}
        self._title = ""
        self._live = Live(console=self._console, get_renderable=self.table, refresh_per_second=15)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.__exit__(None, None, None)

    def __call__(self, record: Record) -> None:
        match record.event:
            case RunStarted(command=command, nodes=nodes):
                self._title = command
                self._state |= dict.fromkeys(nodes, ("waiting", ""))
            case StepQueued(node=node, attempt=attempt):
                self._state[node] = ("queued", "")
                if attempt == 1:
                    self._queued_ns[node] = record.mono_ns
            case StepStarted(node=node, action=action, attempt=attempt):
                word = "starting" if action == "ensure" else "stopping"
                self._state[node] = (word, f"attempt {attempt}" if attempt > 1 else "")
            case StepProvisioned(node=node):
                self._state[node] = ("probing", "")
            case GateChecked(node=node, probe=probe, passed=False, answer=answer):
                self._state[node] = ("probing", f"{probe}: {answer}")
            case StepRetried(node=node, reason=reason, delay_s=delay_s):
                self._state[node] = ("retrying", f"in {delay_s:.1f} s: {reason}")
            case StepFinished(node=node, action=action, outcome=outcome, reason=reason):
                word = "ready" if action == "ensure" else "gone"
                known = {Outcome.CHANGED: word, Outcome.UNCHANGED: "unchanged"}
                self._state[node] = (known.get(outcome, str(outcome)), reason)
                if node in self._queued_ns:
                    seconds = (record.mono_ns - self._queued_ns[node]) / 1e9
                    self._took[node] = f"{seconds * 1000:.0f} ms"
            case Noticed(node=node, text=text):
                self._live.console.print(f"{node}: note: {clean(text)}", markup=False)
            case CancelRequested(signal=signal):
                self._live.console.print(f"{signal}: stopping; once more to stop at once")
            case _:
                pass

    def table(self) -> Table:
        """The run as it is now."""
        table = Table(title=self._title, box=None, padding=(0, 1), title_justify="left")
        for name in ("layer", "node", "state"):
            table.add_column(name, no_wrap=True)
        table.add_column("took", justify="right", no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
        before = ""
        last = len(self._rank)
        for node in sorted(self._state, key=lambda name: self._rank.get(name, last)):
            state, note = self._state[node]
            layer = self._layers.get(node, "")
            table.add_row(
                layer if layer != before else "",
                node,
                Text(state, style=STYLES.get(state, "cyan")),
                self._took.get(node, ""),
                Text(clean(note.split("\n")[0])),
            )
            before = layer
        return table
