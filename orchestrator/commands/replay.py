"""`replay`: rebuild one layer or node, with its blast radius before and the proof after."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import click

from orchestrator.app import App
from orchestrator.commands.run import Finished, complain, json_option, run_to_end, watching
from orchestrator.commands.target import Target, target_options
from orchestrator.engine.executor import Result
from orchestrator.events import Outcome
from orchestrator.identity import by_places
from orchestrator.lock import PATIENCE_S, lock
from orchestrator.rebuild import Replay, blast_radius, rebuild, replayed
from orchestrator.replay import Proof
from orchestrator.sights.console import failure_report
from orchestrator.terminal import counted


@click.command()
@click.argument("what", default="", metavar="[LAYER|NODE]")
@click.option("--dry-run", is_flag=True, help="Only say what would be touched.")
@click.option("--no-deps", is_flag=True, help="Do not ask the gates of what stands on it.")
@click.option("--cascade", is_flag=True, help="Rebuild everything that stands on it too.")
@json_option
@target_options
def replay(
    target: Target, what: str, dry_run: bool, no_deps: bool, cascade: bool, as_json: bool
) -> None:
    """Rebuild LAYER (bridge, veths, nat, data, services, gateway, edge, …) or NODE.

    Without a name: whatever is broken now. Prints the blast radius first, and the proof
    that everything outside of it is the same afterwards.
    """
    app = target.enter()
    options = {"cascade": cascade, "with_deps": not no_deps}
    if dry_run:
        _announce(app, what, asyncio.run(blast_radius(app, what, **options)), as_json=as_json)
        return
    begun = time.monotonic()
    finished = Finished()

    async def work() -> tuple[Replay, Result, Proof] | None:
        async with lock(app.lab, "replay", patience_s=PATIENCE_S):
            found = await blast_radius(app, what, **options)
            _announce(app, what, found, as_json=as_json)
            near = found.radius
            if not near.touched:
                return None
            with watching(app, as_json=as_json, nodes=near.touched | near.felt) as sights:
                return found, *await rebuild(app, found, [*sights, finished], complain=complain)

    left = "what was taken away and not rebuilt is down; `orchestrator replay` goes on"
    done = run_to_end(app, work(), left=left)
    if done is None:
        if not as_json:
            click.echo("nothing is broken, nothing was touched")
        return
    found, result, proof = done
    if result.outcome is Outcome.FAILED:
        click.echo(failure_report(finished.steps), err=True)
    if as_json:
        click.echo(json.dumps(replayed(result, proof, time.monotonic() - begun)))
    else:
        nodes = counted(len(found.radius.touched), "node")
        click.echo(f"replayed {nodes} in {time.monotonic() - begun:.2f} s")
        click.echo(proof.text())
    if proof.disturbed or result.outcome is Outcome.FAILED:
        sys.exit(1)


def _announce(app: App, what: str, found: Replay, *, as_json: bool) -> None:
    """The blast radius, in the order of the stack."""
    if as_json:
        click.echo(json.dumps(found.document(what, app.nodes)))
        return
    words = {
        "rebuilt": "rebuilt",
        "mended": "mended, as far as it needs it",
        "felt": "left alone, asked again whether it is well",
    }
    for key, names in found.ordered(app.nodes).items():
        if names:
            click.echo(f"{words[key]}: {', '.join(names)}")
    if pairs := by_places(found.broken):
        text = ", ".join(f"{count} of {name}" for name, count in sorted(pairs.items()))
        click.echo(f"connections that break: {text}")
    elif found.radius.touched:
        click.echo("connections that break: none")
