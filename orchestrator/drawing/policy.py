"""Who may connect to whom: the matrix of declared flows with what came by each so far. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from orchestrator.drawing.rules import LIVE, MISSING, WHY_WIDTH, Row, human_count
from orchestrator.drawing.svg import printable

CLOSED, ITSELF, OPEN, NOT_AS_WANTED = "·", "=", "open", "✗"


class Cell(Struct, frozen=True):
    """One flow: who, to which port of whom, the rules behind it, and the connections so far."""

    source: str
    target: str
    port: int
    protocol: str
    state: str  # of its rules: live, or the first that is not
    connections: int
    rules: tuple[str, ...]
    why: str

    @property
    def service(self) -> str:
        return f"{self.target}:{self.port}/{self.protocol}"


class Refusal(Struct, frozen=True):
    """What one place turned away."""

    target: str
    packets: int


class Chart(Struct, frozen=True):
    """The whole policy as it is enforced now."""

    places: tuple[str, ...]  # columns: whoever may be a source
    cells: tuple[Cell, ...]
    refused: tuple[Refusal, ...]
    outbound: dict[str, str]  # place → allowed, denied or its ports
    outbound_refused: int
    strangers: int  # packets from elsewhere to services' own addresses, dropped
    spoofed: dict[str, int]  # bridge port → frames with another's address, dropped
    guard: str  # why there is no guard; empty where there is
    open: tuple[str, ...] = ()  # places whose rules refuse nobody, or not all, now
    wrong: dict[str, str] = field(default_factory=dict)  # node → what is not as wanted of it

    @property
    def missing(self) -> int:
        return sum(each.state != LIVE for each in self.cells)


def cell(source: str, target: str, port: int, protocol: str, found: Sequence[Row]) -> Cell:
    """From the rows of the place where the flow is let in."""
    name = f"from-{source}-{port}/{protocol}"
    rows = [row for row in found if row.name == name]
    wrong = [row.state for row in rows if row.state != LIVE]
    return Cell(
        source,
        target,
        port,
        protocol,
        wrong[0] if wrong else LIVE if rows else MISSING,
        sum(row.packets for row in rows),
        tuple(f"-A {row.chain} {row.rule}" for row in rows),
        rows[0].why if rows else "",
    )


def refused(target: str, found: Iterable[Row]) -> Refusal:
    """From the same rows: its last two rules."""
    return Refusal(target, sum(row.packets for row in found if row.name.startswith("refused")))


def as_text(chart: Chart) -> str:
    """The matrix: a row for each port, a column for each source."""
    services = list(dict.fromkeys(each.service for each in chart.cells))
    heads = {place: place.replace("-", "- ").split() for place in chart.places}
    depth = max(len(words) for words in heads.values())
    left = max((len(name) for name in services), default=0)
    widths = {p: max(max(map(len, words)), 5) + 2 for p, words in heads.items()}
    lines = [
        (" " * left)
        + "".join(
            (heads[p][row] if row < len(heads[p]) else "").rjust(width)
            for p, width in widths.items()
        )
        for row in range(depth)
    ]
    by_place = {(each.service, each.source): each for each in chart.cells}
    for name in services:
        target = name.partition(":")[0]
        marks = [
            _mark(
                by_place.get((name, place)),
                is_own=place == target,
                is_open=target in chart.open,
            ).rjust(widths[place])
            for place in chart.places
        ]
        lines.append(f"{name:{left}}{''.join(marks)}")
    lines += ["", *_below(chart)]
    return "\n".join(printable(line).rstrip() for line in lines) + "\n"


def _mark(found: Cell | None, *, is_own: bool, is_open: bool) -> str:
    if found is None:
        return ITSELF if is_own else OPEN if is_open else CLOSED
    return human_count(found.connections) if found.state == LIVE else NOT_AS_WANTED


def _below(chart: Chart) -> list[str]:
    turned = [f"{each.target} {each.packets}" for each in chart.refused if each.packets]
    legend = f"numbers: connections so far; {CLOSED} refused; {ITSELF} over its own loopback"
    legend += f"; {OPEN}: not declared, but not refused now" if chart.open else ""
    legend += f"; {NOT_AS_WANTED} its rule is not as wanted" if chart.missing else ""
    lines = [
        legend,
        f"refused packets: {', '.join(turned) or 'none'}",
    ]
    ways = dict.fromkeys(chart.outbound.values())
    for way in ways:
        who = [place for place, given in chart.outbound.items() if given == way]
        lines.append(f"to the outside {way}: {', '.join(who)}")
    if chart.outbound_refused:
        lines.append(f"to the outside refused: {chart.outbound_refused} packets")
    lines.append(f"from elsewhere to a service's own address: {chart.strangers} packets dropped")
    if chart.guard:
        lines.append(chart.guard)
    else:
        named = [f"{port} {count}" for port, count in chart.spoofed.items() if count]
        lines.append(f"frames with another's address: {', '.join(named) or 'none'} dropped")
    lines.append("ping is open to everybody")
    return lines


def explained(chart: Chart) -> str:
    """Each flow with its counter, its rules as they stand, and why."""
    lines: list[str] = []
    for each in chart.cells:
        count = (
            human_count(each.connections) if each.state == LIVE else f"{NOT_AS_WANTED} {each.state}"
        )
        lines.append(f"{each.source} → {each.service}: {count}")
        lines += [f"    {rule}" for rule in each.rules]
        lines += [
            f"    {line}" for line in textwrap.wrap(each.why, WHY_WIDTH, break_on_hyphens=False)
        ]
    return "".join(f"{printable(line)}\n" for line in lines)
