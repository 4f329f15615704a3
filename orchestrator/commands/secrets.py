"""`secrets`: which there are, and new ones for old while the platform serves."""

from __future__ import annotations

import stat
import sys
import time
from typing import Any

import click

from orchestrator import interrupts
from orchestrator.app import App
from orchestrator.commands.attending import Resting
from orchestrator.commands.options import target_options
from orchestrator.commands.run import json_option
from orchestrator.commands.running import run_to_end
from orchestrator.commands.target import Target
from orchestrator.commands.telling import tell
from orchestrator.commands.watching import Finished, complain, watching
from orchestrator.engine.executor import Result
from orchestrator.errors import HostError, UsageError
from orchestrator.events import Outcome
from orchestrator.lock import refuse_if_busy
from orchestrator.near import did_you_mean
from orchestrator.sights.console import failure_report
from orchestrator.terminal import counted

HALF_ROTATED = (
    "it serves with the old secrets and the new ones; `orchestrator secrets rotate` or `up` goes on"
)
MADE, GONE, NEW = "made", "gone", "not made yet"
HOW_BACK = {True: "brings it back as it was", False: "makes a new one and hands it on"}
HOUR_S, DAY_S = 3600, 86_400


@click.group()
def secrets() -> None:
    """The lab's secrets: random, made at first start, readable by root alone."""


@secrets.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@target_options
def list_(target: Target, as_json: bool) -> None:
    """Names, ages, modes, and who reads them; never the secrets themselves.

    One that was deleted is "gone"; before a first `up`, it is "not made yet". Raises HostError.
    """
    app = target.open()
    rows = _rows(app)
    if as_json:
        tell(rows)
        return
    if not rows:
        click.echo("this stack has no secrets")
        return
    width = max(len("secret"), *(len(row["secret"]) for row in rows))
    click.echo(f"{'secret':{width}}  {'made':>14}  mode  read by")
    for row in rows:
        age = row["state"] if row["age_s"] is None else _age(row["age_s"])
        readers = ", ".join(row["readers"]) or "nobody"
        notes = "  being rotated" if row["rotating"] else ""
        if row["state"] == GONE:
            notes += f"  mend: `orchestrator up` {HOW_BACK[bool(row['has_copy'])]}"
        click.echo(f"{row['secret']:{width}}  {age:>14}  {row['mode']:4}  {readers}{notes}")


def _rows(app: App) -> list[dict[str, Any]]:
    from orchestrator import rotation

    kept = app.compiler.secrets
    under_way = kept.rotation()
    templates = app.compiler.templates
    read = {
        name: {*spec.secrets, *templates.readable(name, spec.files, spec.environment)}
        for name, spec in {**app.stack.services, **app.stack.jobs}.items()
    }
    unmade = NEW if rotation.is_new(app.lab) else GONE
    rows = []
    for name in app.stack.secrets:
        path = kept.directory / name
        try:
            seen = path.stat()
        except PermissionError as error:
            raise HostError("only root may look at secrets", mend="run it with sudo") from error
        except FileNotFoundError:
            seen = None
        rows.append(
            {
                "secret": name,
                "state": unmade if seen is None else MADE,
                "has_copy": (kept.copies / name).exists(),
                "age_s": None if seen is None else round(time.time() - seen.st_mtime),
                "mode": "" if seen is None else f"{stat.S_IMODE(seen.st_mode):04o}",
                "readers": [each for each, names in read.items() if name in names],
                "rotating": under_way is not None and name in under_way.names,
            }
        )
    return rows


def _age(age_s: int) -> str:
    for unit_s, word in ((DAY_S, "days"), (HOUR_S, "hours"), (60, "minutes")):
        if age_s >= 2 * unit_s:
            return f"{age_s // unit_s} {word} ago"
    return f"{counted(age_s, 'second')} ago"


@secrets.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@json_option
@target_options
def rotate(target: Target, names: tuple[str, ...], as_json: bool) -> None:
    """Exchange secrets for new ones, all of them without NAME; no request is lost.

    Servers learn the new ones first, then their clients; connections that are open stay. After
    a crash the same command, or `up`, goes on where it ended.
    """
    from orchestrator import rotation

    interrupts.end()
    app = target.enter()
    known = app.stack.secrets
    if unknown := [name for name in names if name not in known]:
        near = did_you_mean(unknown[0], known)
        raise UsageError(f"unknown secret {unknown[0]}{near}; known: {', '.join(known)}")
    refuse_if_busy(app.lab)
    begun = time.monotonic()
    finished = Finished()
    supervisor = Resting(app, target)

    async def work() -> Result:
        with watching(app.layers, as_json=as_json) as sights:
            sights.append(finished)
            return await rotation.rotate(
                app, names, sights, complain=complain, supervisor=supervisor
            )

    result = run_to_end(app, work(), left=HALF_ROTATED)
    if result.outcome is Outcome.FAILED:
        click.echo(failure_report(finished.steps), err=True)
        click.echo(f"not finished: {HALF_ROTATED}", err=True)
        sys.exit(1)
    if not as_json:
        text = counted(len(set(names or app.stack.secrets)), "secret")
        click.echo(f"rotated {text} in {time.monotonic() - begun:.2f} s")
