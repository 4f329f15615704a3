"""`status`: asked of the supervisor, which has everything loaded; else by a look of our own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import click

from orchestrator import frozen
from orchestrator.commands.target import Target, is_terminal, target_options
from orchestrator.commands.telling import tell
from orchestrator.diskspace import full_places
from orchestrator.front import client
from orchestrator.hints import hinted
from orchestrator.lab import Lab
from orchestrator.terminal import clean

TABLE_WIDTH = 140  # where there is no terminal to ask
ANSWER_S = 1.0  # after which we look ourselves: a supervisor may hang
HEAD = ("node", "state", "pid", "address", "uptime", "restarts", "ready after", "error")
COLOURS = {
    **dict.fromkeys(("ready", "gone"), "green"),
    "failed": "red",
    **dict.fromkeys(("skipped", "cancelled", "retrying", "drifted"), "yellow"),
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="All nodes as JSON.")
@click.option("--all", "everything", is_flag=True, help="Links, rules and jobs too.")
@target_options
def status(target: Target, as_json: bool, everything: bool) -> None:
    """What is there now: state, pid, address, uptime, restarts, time to ready, last error."""
    lab, found = _of_supervisor(target) or _own_look(target)
    if as_json:
        tell(found)
        return
    rows = found["nodes"]
    shown = [row for row in rows if everything or row["node"].startswith(("service:", "check:"))]
    quiet = [row for row in rows if row not in shown]
    for line in _table([HEAD, *(_cells(row, everything=everything) for row in shown)]):
        click.echo(line)
    for row in quiet:
        if row["state"] not in ("ready", "down"):
            click.echo(
                f"{row['node']}: {row['state']}: {clean(row['detail'] or row['last_error'])}"
            )
    ready = sum(row["state"] == "ready" for row in quiet)
    if quiet:
        click.echo(f"and {ready} of {len(quiet)} other nodes ready (--all shows them)")
    pid = found["supervisor"]
    click.echo(f"supervisor: {f'pid {pid}' if pid else 'none'}")
    if found["page"]:
        click.echo(f"page: {found['page']}")
    if why := frozen.reason(lab):
        click.echo(f"warning: frozen, nothing changes it: {clean(why)}", err=True)
    for place in full_places(lab):
        click.echo(f"warning: {place}", err=True)


def _of_supervisor(target: Target) -> tuple[Lab, dict[str, Any]] | None:
    """Its answer, if it knows the stack as the file has it now."""
    try:
        if not (known := target.known()):
            return None
        lab, digest = known
        code, found = client.get(lab, f"/status?stack={digest}", timeout_s=ANSWER_S)
    except (OSError, ValueError):
        return None
    return (lab, found) if code == client.OK else None


def _own_look(target: Target) -> tuple[Lab, dict[str, Any]]:
    import asyncio

    from orchestrator.front.pulse import MEND, ailment
    from orchestrator.resource import Observation, State
    from orchestrator.status import status_of

    if target.is_absent():
        app = target.open()
        observed = {name: Observation(State.ABSENT) for name in app.nodes}
    else:
        app = target.enter()
        observed = asyncio.run(app.observe())
    if what := ailment(app.lab):
        click.echo(hinted(f"warning: {what}{MEND}"), err=True)
    return app.lab, status_of(app, observed).document()


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
        clean((row["detail"] or row["last_error"]).split("\n")[0]),
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side; the last one is cut where the terminal ends."""
    width = shutil.get_terminal_size().columns if is_terminal() else TABLE_WIDTH
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    found = []
    for number, row in enumerate(rows):
        cells = [text.ljust(wide) for text, wide in zip(row, widths, strict=True)]
        line = f" {'  '.join(cells)}".rstrip()
        line = line if len(line) <= width else f"{line[: width - 1]}…"
        if number == 0:
            line = click.style(line, bold=True)
        elif len(line) > len(cells[0]):
            start = len(cells[0]) + 3
            end = start + len(row[1])
            word = click.style(row[1], fg=COLOURS.get(row[1], "cyan"))
            line = line[:start] + word + line[end:]
        found.append(line)
    return found


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
