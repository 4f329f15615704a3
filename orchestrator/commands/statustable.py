"""What `status` shows: asked of the supervisor, which has everything loaded; else by a look of
our own. Light, as target.py is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator import frozen
from orchestrator.commands.target import Target, is_coloured, is_terminal
from orchestrator.commands.telling import say, tell
from orchestrator.diskspace import full_places
from orchestrator.front.wire import OK, Answer
from orchestrator.hints import hinted
from orchestrator.lab import Lab
from orchestrator.terminal import clean, gist

TABLE_WIDTH = 140  # where there is no terminal to ask
HEAD = ("node", "state", "pid", "address", "uptime", "restarts", "ready after", "error")
BOLD, RED, GREEN, YELLOW, CYAN = 1, 31, 32, 33, 36  # ECMA-48, Select Graphic Rendition
COLOURS = {
    **dict.fromkeys(("ready", "gone"), GREEN),
    "failed": RED,
    **dict.fromkeys(("skipped", "cancelled", "retrying", "drifted"), YELLOW),
}


def show(
    target: Target,
    *,
    as_json: bool,
    everything: bool,
    ask: Callable[[], Answer | None],
) -> None:
    """The nodes as a table, or all of it as JSON. `ask` gives who was asked: asking.status."""
    lab, found = _of_supervisor(target, ask) or _own_look(target)
    if as_json:
        tell(found)
        return
    rows = found["nodes"]
    shown = [row for row in rows if everything or row["node"].startswith(("service:", "check:"))]
    quiet = [row for row in rows if row not in shown]
    for line in _table([HEAD, *(_cells(row, everything=everything) for row in shown)]):
        say(line)
    # Where nothing is up it goes without saying that nothing else is.
    is_up = any(row["state"] != "down" for row in shown if row["node"].startswith("service:"))
    for row in quiet:
        if row["state"] not in (("ready",) if is_up else ("ready", "down")):
            why = clean(gist(row["detail"]) or row["last_error"])
            say(": ".join(filter(None, (row["node"], row["state"], why))))
    ready = sum(row["state"] == "ready" for row in quiet)
    if quiet:
        say(f"and {ready} of {len(quiet)} other nodes ready (--all shows them)")
    pid = found["supervisor"]
    say(f"supervisor: {f'pid {pid}' if pid else 'none'}")
    if found["page"]:
        say(f"page: {found['page']}")
    if why := frozen.reason(lab):
        say(f"warning: frozen, nothing changes it: {clean(why)}", err=True)
    for place in full_places(lab):
        say(f"warning: {place}", err=True)


def _of_supervisor(
    target: Target, ask: Callable[[], Answer | None]
) -> tuple[Lab, dict[str, Any]] | None:
    """Its answer, if it knows the stack as the file has it now."""
    try:
        if not (known := target.known()) or not (answer := ask()):
            return None
        code, body = answer.got()
        return (known[0], json.loads(body)) if code == OK else None
    except (OSError, ValueError):
        return None


def _own_look(target: Target) -> tuple[Lab, dict[str, Any]]:
    import asyncio

    from orchestrator.front.pulse import MEND, ailment
    from orchestrator.resource import Observation, State
    from orchestrator.status import look, status_of

    if target.is_absent():
        app = target.open()
        found = status_of(app, {name: Observation(State.ABSENT) for name in app.nodes})
    else:
        app = target.enter()
        found = asyncio.run(look(app))
    if what := ailment(app.lab):
        say(hinted(f"warning: {what}{MEND}"), err=True)
    return app.lab, found.document()


def _cells(row: dict[str, Any], *, everything: bool) -> tuple[str, ...]:
    uptime_s, ready_s = row["uptime_s"], row["ready_after_s"]
    return (
        row["node"] if everything else row["node"].removeprefix("service:"),
        row["state"],
        str(row["pid"] or ""),
        row["address"] or "",
        "" if uptime_s is None else duration(uptime_s),
        str(row["restarts"]) if row["pid"] else "",
        "" if ready_s is None else f"{ready_s * 1000:.0f} ms",
        clean(hinted(row["detail"] or row["last_error"]).split("\n")[0]),
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side; the last one is cut where the terminal ends."""
    width = TABLE_WIDTH
    if is_terminal():
        import shutil

        width = shutil.get_terminal_size().columns
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    found = []
    for number, row in enumerate(rows):
        cells = [text.ljust(wide) for text, wide in zip(row, widths, strict=True)]
        line = f" {'  '.join(cells)}".rstrip()
        line = line if len(line) <= width else f"{line[: width - 1]}…"
        if number == 0:
            line = _styled(line, BOLD)
        elif len(line) > len(cells[0]):
            start = len(cells[0]) + 3
            end = start + len(row[1])
            word = _styled(row[1], COLOURS.get(row[1], CYAN))
            line = line[:start] + word + line[end:]
        found.append(line)
    return found


def _styled(text: str, how: int) -> str:
    return f"\x1b[{how}m{text}\x1b[0m" if is_coloured() else text


def duration(seconds: float) -> str:
    """`42s`, `3m07s`, `2h05m`, `3d04h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
