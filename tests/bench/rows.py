"""What a part of the bench reports: rows with medians, spread and targets, as text or markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """What the median must come to."""

    value: float
    least: bool  # at least that much; else at most

    def holds(self, median: float) -> bool:
        return median >= self.value if self.least else median <= self.value


def at_most(value: float) -> Bound:
    return Bound(value, least=False)


def at_least(value: float) -> Bound:
    return Bound(value, least=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured, once a round, in one unit (ms, s, ×, MB, requests/s, …)."""

    name: str
    values: Sequence[float]
    unit: str
    target: Bound | None = None  # none for baselines and for what is only told
    missing: str = ""  # why there are no values

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None if there is none, or no value."""
        return None if self.target is None or self.missing else self.target.holds(self.median)

    def cells(self) -> tuple[str, ...]:
        """Name, median, spread, target and verdict."""
        if self.missing:
            return self.name, "not measured", "", "", self.missing
        shown = [_number(value) for value in (self.median, min(self.values), max(self.values))]
        target = "" if self.target is None else f"{'≥' if self.target.least else '≤'} "
        if self.target is not None:
            target += f"{_number(self.target.value)} {self.unit}".strip()
        verdict = {None: "", True: "holds", False: "missed"}[self.holds]
        spread = f"{shown[1]} – {shown[2]}"
        return self.name, f"{shown[0]} {self.unit}".strip(), spread, target, verdict


def ratio(name: str, part: Row, whole: Row, target: Bound | None = None) -> Row:
    """One row divided by another of the same unit and the same rounds, round by round."""
    values = [one / other for one, other in zip(part.values, whole.values, strict=True)]
    return Row(name, values, "×", target)


@dataclass(frozen=True, slots=True)
class Section:
    """One part's rows, with what must be said of them: what was compared, what was left out."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    listing: str = ""  # output of a command that explains the figures


# A part of the bench: measures so many rounds.
Part = Callable[[int], Section]

HEADINGS = ("", "median", "spread", "target", "")


def text(sections: Sequence[Section]) -> str:
    """For the terminal."""
    lines = []
    for section in sections:
        table = [HEADINGS, *(row.cells() for row in section.rows)]
        widths = [max(len(cells[column]) for cells in table) for column in range(len(HEADINGS))]
        lines += ["", section.title]
        for name, *others in table:
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            lines.append("  ".join([f"  {name:{widths[0]}}", *cells]).rstrip())
        lines += [f"  {note}" for note in section.notes]
    return "\n".join([*lines, ""])


def markdown(sections: Sequence[Section]) -> str:
    """For docs/benchmarks.md."""
    lines = []
    for section in sections:
        lines += ["", f"## {section.title}", ""]
        lines += ["| | median | spread | target | |", "|---|---:|---:|---:|---|"]
        lines += [f"| {' | '.join(row.cells())} |".replace("  ", " ") for row in section.rows]
        for note in section.notes:
            lines += ["", note]
        if section.listing:
            lines += ["", "```", section.listing.rstrip(), "```"]
    return "\n".join([*lines, ""])


def _number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value >= 1000:
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"
