"""`replay`: rebuild one layer or node, with its blast radius before and the proof after.

A supervisor that knows the stack does it: it has everything loaded. Else we do it ourselves.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.target import Target, target_options
from orchestrator.errors import INTERRUPTED, OrchestratorError
from orchestrator.front import client
from orchestrator.hints import hinted

if TYPE_CHECKING:
    from orchestrator.commands.watching import Finished

HEARD_S = 2.0  # after which we do it ourselves: a supervisor may hang


@click.command()
@click.argument("what", default="", metavar="[LAYER|NODE]")
@click.option("--dry-run", is_flag=True, help="Only say what would be touched.")
@click.option("--no-deps", is_flag=True, help="Do not ask the gates of what stands on it.")
@click.option("--cascade", is_flag=True, help="Rebuild everything that stands on it too.")
@click.option("--json", "as_json", is_flag=True, help="Events as lines of JSON.")
@target_options
def replay(
    target: Target, what: str, dry_run: bool, no_deps: bool, cascade: bool, as_json: bool
) -> None:
    """Rebuild LAYER (bridge, veths, nat, data, services, gateway, edge, …) or NODE.

    Without a name: whatever is broken now. Prints the blast radius first, and the proof
    that everything outside of it is the same afterwards.
    """
    begun = time.monotonic()
    wishes = {"what": what, "cascade": cascade, "deps": not no_deps, "dry_run": dry_run}
    if lines := _of_supervisor(target, wishes):
        _watch(lines, begun, dry_run=dry_run, as_json=as_json)
    else:
        _by_ourselves(target, wishes, as_json=as_json)


def _of_supervisor(target: Target, wishes: dict[str, Any]) -> Iterator[str] | None:
    """Its answer, if it knows the stack as the file has it now. What it refuses, it is for us
    to refuse: the lab is busy, there is no such node."""
    try:
        if not (known := target.known()):
            return None
        lab, digest = known
        return client.post(lab, f"/replay?stack={digest}", wishes, timeout_s=HEARD_S)
    except (OSError, ValueError):
        return None


def _watch(lines: Iterator[str], begun: float, *, dry_run: bool, as_json: bool) -> None:
    """The supervisor's replay as if it were ours."""
    # Loaded while it works, not before it begins to.
    from orchestrator.commands.watching import Finished, complain, watching
    from orchestrator.events import decode

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    heard, finished = _heard(lines), Finished()
    try:
        layers, found = json.loads(next(heard)), json.loads(next(heard))
        if not _announce(found, dry_run=dry_run, as_json=as_json):
            return
        with watching(layers, as_json=as_json) as sights:
            while "event" in (told := json.loads(line := next(heard))) or "warning" in told:
                if "warning" in told:
                    complain(told["warning"])
                    continue
                record = decode(line)
                finished(record)
                for sight in sights:
                    sight(record)
    except KeyboardInterrupt:
        click.echo("interrupted: the supervisor goes on with it", err=True)
        sys.exit(INTERRUPTED)
    if "error" in told:
        raise OrchestratorError(told["error"])
    _report(found, told, finished, begun, as_json=as_json)


def _heard(lines: Iterator[str]) -> Iterator[str]:
    """Raises OrchestratorError where they end, and the reader wants more."""
    with contextlib.suppress(OSError, ValueError):
        yield from lines
    raise OrchestratorError(
        "the supervisor has gone in the middle of it\n  mend: `orchestrator replay` goes on"
    )


def _by_ourselves(target: Target, wishes: dict[str, Any], *, as_json: bool) -> None:
    import asyncio

    from orchestrator.commands.run import run_to_end
    from orchestrator.commands.watching import Finished, complain, watching
    from orchestrator.lock import PATIENCE_S, lock
    from orchestrator.rebuild import blast_radius, rebuild, replayed

    app = target.enter()
    what, dry_run = wishes["what"], wishes["dry_run"]
    options = {"cascade": wishes["cascade"], "with_deps": wishes["deps"]}
    begun = time.monotonic()
    finished = Finished()

    async def work() -> tuple[dict[str, Any], dict[str, Any]] | None:
        held = lock(app.lab, "replay", patience_s=PATIENCE_S)
        async with contextlib.nullcontext() if dry_run else held:
            plan = await blast_radius(app, what, **options)
            found = plan.document(what, app.nodes)
            if not _announce(found, dry_run=dry_run, as_json=as_json):
                return None
            layers = {name: app.layers[name] for name in plan.radius.everything}
            with watching(layers, as_json=as_json) as sights:
                result, proof = await rebuild(app, plan, [*sights, finished], complain=complain)
        return found, replayed(result, proof, time.monotonic() - begun)

    if dry_run:
        asyncio.run(work())
        return
    left = "what was taken away and not rebuilt is down; `orchestrator replay` goes on"
    if done := run_to_end(app, work(), left=left):
        _report(*done, finished, begun, as_json=as_json)


def _announce(found: dict[str, Any], *, dry_run: bool, as_json: bool) -> bool:
    """The blast radius; whether anything is done now."""
    touched = found["rebuilt"] + found["mended"]
    if as_json:
        click.echo(json.dumps(found))
        return bool(touched) and not dry_run
    words = {
        "rebuilt": "rebuilt",
        "mended": "mended, as far as it needs it",
        "felt": "left alone, asked again whether it is well",
    }
    for key, text in words.items():
        if names := found[key]:
            click.echo(f"{text}: {', '.join(names)}")
    if pairs := found["connections_that_break"]:
        breaking = ", ".join(f"{count} of {name}" for name, count in sorted(pairs.items()))
        click.echo(f"connections that break: {breaking}")
    elif touched:
        click.echo("connections that break: none")
    if not touched and not dry_run:
        click.echo("nothing is broken, nothing was touched")
    return bool(touched) and not dry_run


def _report(
    found: dict[str, Any],
    result: dict[str, Any],
    finished: Finished,
    begun: float,
    *,
    as_json: bool,
) -> None:
    """What came of it; exits with 1 if it failed or disturbed anything."""
    from orchestrator.replay import Proof
    from orchestrator.sights.console import failure_report
    from orchestrator.terminal import counted

    failed, disturbed = result["failed"], tuple(result["disturbed"])
    seconds = time.monotonic() - begun
    if as_json:
        click.echo(json.dumps(result))
    else:
        nodes = counted(len(found["rebuilt"] + found["mended"]), "node")
        if not failed:
            click.echo(f"replayed {nodes} in {seconds:.2f} s")
        proof = Proof(result["nodes_outside"], result["connections_alive"], disturbed)
        click.echo(proof.text())
    if failed:
        click.echo(failure_report(finished.steps), err=True)
        text = f"not replayed ({seconds:.2f} s): {', '.join(failed)} failed; "
        click.echo(hinted(f"{text}`orchestrator replay` goes on"), err=True)
    if disturbed or failed:
        sys.exit(1)
