"""`plan`, `events` and `logs`: looking, never changing."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from orchestrator.app import App
from orchestrator.commands.completing import SERVICES, Named
from orchestrator.commands.options import target_options
from orchestrator.commands.target import Target, node_argument, service_argument
from orchestrator.commands.telling import tell
from orchestrator.events import (
    ProcessExited,
    ProcessStarted,
    Record,
    RunFinished,
    StepGivenUp,
    encode,
)
from orchestrator.hints import hinted
from orchestrator.logorder import merged
from orchestrator.resource import Observation, State
from orchestrator.sights import journal
from orchestrator.sights.console import line
from orchestrator.terminal import SEVERAL, clean, counted, whole_lines

LOG_POLL_S = 0.1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@target_options
def plan(target: Target, as_json: bool) -> None:
    """What `up` would do, node by node in the order of needs, and why; changes nothing."""
    from orchestrator.needs import topological

    if target.is_absent():
        app = target.open()
        host = app.lab.host
        observed = {name: Observation(State.ABSENT) for name in app.nodes}
        click.echo(f"network namespace {host} does not exist yet; `up` makes it", err=True)
    else:
        app = target.enter()
        observed = asyncio.run(app.observe())
    verbs = {
        State.PRESENT: ("keep", "as wanted"),
        State.ABSENT: ("create", "is not there"),
        State.PARTIAL: ("mend", ""),
        State.FOREIGN: ("refuse", ""),
    }
    rows = []
    for name in topological({name: dict(node.needs) for name, node in app.nodes.items()}):
        node, seen = app.nodes[name], observed[name]
        verb, why = verbs[seen.state]
        if name.startswith("check:"):
            verb, why = "check", "proves the whole platform"
        needs = sorted(node.needs)
        rows.append(
            {
                "node": name,
                "layer": node.layer,
                "do": verb,
                "why": seen.detail or why,
                "needs": needs,
            }
        )
    if as_json:
        tell(rows)
        return
    for row in rows:
        why, *more = str(row["why"]).split(SEVERAL)
        click.echo(f"{row['do']:7} {row['node']:28} {clean(why)}")
        for why in more:
            click.echo(f"{'':7} {'':28} {clean(why)}")
    changes = sum(row["do"] in ("create", "mend") for row in rows)
    click.echo(f"{changes} of {len(rows)} nodes to change" if changes else "nothing to do")


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option("--json", "as_json", is_flag=True, help="Records as they stand in the journal.")
@click.option("--run", "run_id", default="", help="Only one run: its id, or `last`.")
@target_options
def events(target: Target, follow: bool, as_json: bool, run_id: str) -> None:
    """The journal: what happened, with its time; with --json every event, machines' too."""
    app = target.open()
    path = app.lab.journal
    history = _read(path)
    if not history.records and not path.exists():
        # No error: there may be one, and --follow waits for it, as `docker compose logs` does.
        text = f"there is no journal {path} yet; `orchestrator up` begins it"
        click.echo(hinted(text), err=True)
    if run_id == "last" and history.records:
        run_id = history.records[-1].run
    elif run_id and all(record.run != run_id for record in history.records):
        from orchestrator.errors import UsageError

        raise UsageError(f"unknown run {run_id}; `orchestrator analyze runs` lists those there are")

    def show(record: Record) -> None:
        if run_id and record.run != run_id:
            return
        if as_json:
            click.echo(encode(record))
        elif text := line(record.event) or _in_words(record):
            at = time.strftime("%H:%M:%S", time.localtime(record.wall_ns / 1e9))
            click.echo(f"{at}.{record.wall_ns // 1_000_000 % 1000:03}  {clean(text)}")

    if not follow:
        for record in history.records:
            show(record)
        if history.damaged:
            click.echo(f"warning: {history.damaged} damaged lines were left out", err=True)
        return

    async def forever() -> None:
        async for record in journal.follow(path):
            show(record)

    asyncio.run(forever())


def _read(path: Path) -> journal.History:
    try:
        return journal.read(path)
    except PermissionError as error:
        from orchestrator.errors import HostError

        raise HostError(f"cannot read {path}", mend="run it with sudo") from error


def _in_words(record: Record) -> str:
    """What only a history needs to be told; empty for what only machines care for."""
    match record.event:
        case ProcessStarted(node=node, pid=pid):
            return f"{node}: process {pid} started"
        case ProcessExited(node=node, pid=pid, returncode=code):
            return f"{node}: process {pid} ended with {code}"
        case StepGivenUp(node=node, attempt=attempt, cause=cause):
            return f"{node}: given up after {counted(attempt, 'attempt')} ({cause})"
        case RunFinished(outcome=outcome, failed=failed):
            return f"run {record.run}: {outcome}" + (
                f"; failed: {', '.join(failed)}" * bool(failed)
            )
        case _:
            return ""


@click.command()
@click.argument("names", nargs=-1, type=Named(SERVICES), metavar="[NODE]...")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--tail", "count", type=click.IntRange(0), default=100, show_default=True)
@target_options
def logs(target: Target, names: tuple[str, ...], follow: bool, count: int) -> None:
    """What services and jobs wrote, each line with its node's name before it.

    The last lines of each, in the order of the times that they say; with --follow then
    everything as it is written.
    """
    app = target.open()
    chosen = [_log_name(app, name) for name in names] or [
        *(name for name, service in app.stack.services.items() if service.command),
        *app.stack.jobs,
    ]
    width = max((len(name) for name in chosen), default=0)
    files = {name: app.lab.log(name) for name in chosen}
    if files and app.lab.state_dir.exists() and not os.access(app.lab.state_dir, os.X_OK):
        from orchestrator.errors import HostError

        raise HostError(f"cannot read {app.lab.state_dir}", mend="run it with sudo")
    if not any(path.exists() for path in files.values()):
        place = app.lab.state_dir / "logs"
        text = f"nothing was logged yet in {place}; `orchestrator up` begins it"
        click.echo(hinted(text), err=True)
    last = {name: _last_lines(path, count) for name, path in files.items()}
    lines = {name: found for name, (found, _) in last.items()}
    offsets = {name: offset for name, (_, offset) in last.items()}
    while True:
        for name, text in merged(lines, {name: _ended_s(path) for name, path in files.items()}):
            click.echo(f"{name:{width}} | {clean(text)}")
        if not follow:
            return
        sys.stdout.flush()
        time.sleep(LOG_POLL_S)
        lines = {name: list(_new_lines(path, offsets, name)) for name, path in files.items()}


def _ended_s(log: Path) -> float:
    """When something was last written to it."""
    try:
        return log.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _log_name(app: App, name: str) -> str:
    if (job := name.removeprefix("job:")) in app.stack.jobs:
        return job
    full = node_argument(app, name)
    short = full.partition(":")[2]
    return short if full.startswith("job:") else service_argument(app, short)


def _last_lines(path: Path, count: int) -> tuple[list[str], int]:
    """The last whole lines, and where the next one begins."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    end = data.rfind(b"\n") + 1
    lines = whole_lines(data)
    return lines[len(lines) - count :] if count < len(lines) else lines, end


def _new_lines(path: Path, offsets: dict[str, int], name: str) -> Iterator[str]:
    """Whole lines since the last call; begins anew when the log was put aside."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < offsets[name]:
                offsets[name] = 0
            file.seek(offsets[name])
            data = file.read()
    except FileNotFoundError:
        return
    offsets[name] += data.rfind(b"\n") + 1
    yield from whole_lines(data)
