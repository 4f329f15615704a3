"""A run as a picture: time from left to right, one row for each node in the order of release."""

from __future__ import annotations

import time
from collections.abc import Iterator

from orchestrator.drawing.svg import Page, cut, flowing, number, text_width
from orchestrator.drawing.timings import took
from orchestrator.events import Outcome
from orchestrator.sights.critical import Chain, critical_chain, slack
from orchestrator.sights.phases import Attempt, AttemptOutcome, NodeSpan, Phase, RunSpan, Segment

MARGIN, TOP = 20.0, 92.0
CHART, RIGHT = 720.0, 170.0  # the time axis, and room for what stands after the last bar
ROW, BAR = 24.0, 11.0
LABEL_MIN, LABEL_MAX = 120.0, 260.0
NARROWEST, THINNEST = 0.4, 1.5  # what is not drawn, and the least that is
TICKS = 9
LEGEND_ROW = 20.0

HUES = {
    Phase.SLOT_WAIT: "s7",
    Phase.PROVISION: "s0",
    Phase.BACKOFF: "s3",
    Phase.READINESS_WAIT: "s1",
}
TEXTS = {
    Phase.DEPENDENCY_WAIT: "waits for needs",
    Phase.SLOT_WAIT: "waits for a slot",
    Phase.PROVISION: "provision",
    Phase.BACKOFF: "backoff",
    Phase.READINESS_WAIT: "readiness",
}


def as_svg(run: RunSpan) -> str:
    """Bars, the critical path as a line through them, attempts, a time axis and a legend."""
    chain = critical_chain(run)
    rows = sorted(run.nodes.values(), key=lambda each: (each.queued_ns, each.end_ns))
    label = max((text_width(each.node) for each in rows), default=0.0) + 16
    chart = _Chart(run, chain, min(max(label, LABEL_MIN), LABEL_MAX))
    return chart.draw(rows)


class _Chart:
    """One picture being drawn; x is time."""

    def __init__(self, run: RunSpan, chain: Chain, label: float) -> None:
        self._run, self._chain = run, chain
        self._slack = slack(run)
        self._label = label
        self._left = MARGIN + label
        self._width = self._left + CHART + RIGHT
        self._scale = CHART / max(run.wall_ns, 1)
        self._page = Page(*_titles(run, chain))

    def _x(self, at_ns: int) -> float:
        return self._left + at_ns * self._scale

    def draw(self, rows: list[NodeSpan]) -> str:
        page, bottom = self._page, TOP + len(rows) * ROW
        page.text(MARGIN, 32, page.title, "ink head")
        page.text(MARGIN, 50, cut(page.about, self._width - 2 * MARGIN, 10.5), "muted small")
        for index in range(0, len(rows), 2):
            page.box(MARGIN / 2, TOP + index * ROW, self._width - MARGIN, ROW, "zebra", radius=3)
        self._axis(bottom)
        tops = {node.node: TOP + index * ROW for index, node in enumerate(rows)}
        for node in rows:
            self._row(node, tops[node.node])
        self._way(tops)
        for node in rows:  # above the path's line, which goes past them
            self._after(node, tops[node.node] + ROW / 2)
        return page.render(self._width, self._legend(bottom + 36) + 6)

    def _axis(self, bottom: float) -> None:
        step_ns = _step(self._run.wall_ns)
        for at_ns in range(0, self._run.wall_ns + 1, step_ns):
            x = self._x(at_ns)
            self._page.path(f"M{number(x)} {number(TOP - 4)} V{number(bottom + 4)}", "grid")
            text = _moment(at_ns, step_ns)
            self._page.text(x, TOP - 9, text, "muted small middle")
            self._page.text(x, bottom + 16, text, "muted small middle")

    def _row(self, node: NodeSpan, top: float) -> None:
        page, middle = self._page, top + ROW / 2
        critical = node.node in self._chain.nodes
        name = cut(node.node, self._label - 12)
        page.text(MARGIN, middle + 4, name, "ink bold" if critical else "ink")
        for each in node.segments:
            if each.phase is Phase.DEPENDENCY_WAIT and each.ns * self._scale > 3:
                start, end = number(self._x(each.start_ns)), number(self._x(each.end_ns))
                page.path(f"M{start} {number(middle)} H{end}", "wait", title=_about(node, each))
        for each in self._seen(node):
            width = max(each.ns * self._scale, THINNEST)
            at = (self._x(each.start_ns), middle - BAR / 2, width, BAR)
            page.box(*at, HUES[each.phase], radius=1.5, title=_about(node, each))
        self._attempts(node, middle)

    def _after(self, node: NodeSpan, middle: float) -> None:
        text, look = _after(node, self._slack.get(node.node))
        x = self._x(node.end_ns) + 8
        room = cut(text, self._width - x - 6, 10.5)
        self._page.text(x, middle + 4, room, f"{look} small halo")

    def _seen(self, node: NodeSpan) -> list[Segment]:
        """Segments that are wide enough to be seen; of a node without any the longest one."""
        after = [each for each in node.segments[1:] if each.phase is not Phase.DEPENDENCY_WAIT]
        wide = [each for each in after if each.ns * self._scale >= NARROWEST]
        return wide or sorted(after, key=lambda each: each.ns)[-1:]

    def _attempts(self, node: NodeSpan, middle: float) -> None:
        """A cross where an attempt failed; where several were made, the number of each."""
        for attempt in node.attempts:
            own = [each for each in node.segments if each.attempt == attempt.number]
            work = [each for each in own if each.phase is not Phase.BACKOFF and not each.undoes]
            start, end = self._x(own[0].start_ns), self._x(work[-1].end_ns)
            if _has_failed(attempt):
                arms = f"M{number(end - 2)} {number(middle - BAR / 2 - 4.5)} l4 4 m0 -4 l-4 4"
                why = f"attempt {attempt.number}: {attempt.outcome}: {attempt.reason}"
                self._page.path(arms, "fail", title=why)
            if len(node.attempts) > 1:
                self._page.text(start, middle - BAR / 2 - 0.5, str(attempt.number), "muted tiny")

    def _way(self, tops: dict[str, float]) -> None:
        """The critical path: under each bar from its release to where it released the next; a
        hand-over is a stretch with no bar above it."""
        words: list[str] = []
        for link in self._chain.links:
            y, end = number(tops[link.node] + ROW / 2 + BAR / 2 + 2), number(self._x(link.end_ns))
            begin = f"V{y}" if words else f"M{number(self._x(link.start_ns))} {y}"
            words.append(f"{begin} H{end}")
        if words:
            self._page.path(" ".join(words), "way", title="critical path")

    def _legend(self, y: float) -> float:
        """Only what the picture has. Returns where it ends."""
        nodes = self._run.nodes.values()
        used = {each.phase for node in nodes for each in self._seen(node)}
        used.add(Phase.DEPENDENCY_WAIT)
        entries = [(str(phase), TEXTS[phase]) for phase in Phase if phase in used]
        if self._chain.links:
            entries.append(("way", "critical path"))
        if any(_has_failed(attempt) for node in nodes for attempt in node.attempts):
            entries.append(("fail", "failed attempt"))
        if any(self._slack.values()):
            entries.append(("", "(+…) how much longer it could have taken"))
        widths = [text_width(text) + (34 if kind else 0) for kind, text in entries]
        spots, rows = flowing(widths, room=self._width - 2 * MARGIN, gap=14)
        for (kind, text), (x, row) in zip(entries, spots, strict=True):
            self._entry(kind, text, MARGIN + x, y + row * LEGEND_ROW)
        return y + rows * LEGEND_ROW

    def _entry(self, kind: str, text: str, x: float, y: float) -> None:
        page, middle = self._page, number(y - 4)
        if not kind:
            page.text(x, y, text, "muted")
            return
        if kind == "fail":
            page.path(f"M{number(x + 10)} {number(y - 6)} l4 4 m0 -4 l-4 4", kind)
        elif kind in ("way", Phase.DEPENDENCY_WAIT):
            page.path(f"M{number(x)} {middle} h24", "way" if kind == "way" else "wait")
        else:
            page.box(x, y - 4 - BAR / 2, 24, BAR, HUES[Phase(kind)], radius=1.5)
        page.text(x + 31, y, text, "muted")


def _has_failed(attempt: Attempt) -> bool:
    return attempt.outcome not in (AttemptOutcome.OK, AttemptOutcome.OPEN)


def _titles(run: RunSpan, chain: Chain) -> tuple[str, str]:
    """The headline, and what stands under it."""
    how = {
        None: "unfinished after",
        Outcome.FAILED: "failed after",
        Outcome.CANCELLED: "interrupted after",
    }.get(run.outcome, "took")
    title = f"{run.command} {how} {took(run.wall_ns)}"
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.begun_wall_ns // 10**9))
    parts = [f"{len(run.acted_on)} of {len(run.nodes)} nodes", at, f"run {run.run}"]
    if chain.own_ns:
        ratio = run.wall_ns / chain.own_ns
        parts.insert(1, f"own work along the critical path {took(chain.own_ns)} ({ratio:.2f}×)")
    return title, " · ".join(parts)


def _about(node: NodeSpan, each: Segment) -> str:
    """What a mouse and a screen reader find on a segment."""
    parts = [f"{node.node}: {TEXTS[each.phase]} {took(each.ns)}, from {took(each.start_ns)}"]
    if each.undoes:
        parts.append("undoes the last attempt")
    elif len(node.attempts) > 1 and each.attempt:
        parts.append(f"attempt {each.attempt}")
    by = node.joined_by if each.start_ns else node.released_by
    if each.phase is Phase.DEPENDENCY_WAIT and by:
        parts.append(f"released by {by}")
    if each.is_open:
        parts.append("its end is not in the journal")
    return ", ".join(parts)


def _after(node: NodeSpan, slack_ns: int | None) -> tuple[str, str]:
    """What stands after a node's bar, and how it looks."""
    if not node.was_queued:
        return str(node.outcome or "not reached"), "muted"
    if node.outcome is None:
        return f"still in {node.segments[-1].phase}", "warn"
    if node.outcome in (Outcome.FAILED, Outcome.CANCELLED):
        return f"{took(node.own_ns)} {node.outcome}", "warn"
    unchanged = " unchanged" if node.outcome is Outcome.UNCHANGED else ""
    spare = f" (+{took(slack_ns)})" if slack_ns else ""
    return f"{took(node.own_ns)}{unchanged}{spare}", "muted"


def _step(wall_ns: int) -> int:
    """Between two ticks: 1, 2 or 5 of a power of ten, so that there are at most nine."""
    return next(step for step in _steps() if wall_ns / step <= TICKS)


def _steps() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _moment(at_ns: int, step_ns: int) -> str:
    """A tick's text, with as many digits as tell the ticks apart."""
    if at_ns == 0:
        return "0"
    digits = max(0, 10 - len(str(step_ns)))
    return f"{at_ns / 1e9:.{digits}f} s" if step_ns >= 10**7 else f"{at_ns / 1e6:g} ms"
