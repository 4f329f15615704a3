"""`up` and `down`: the commands; running.py does it."""

from __future__ import annotations

import click

from orchestrator.commands.options import target_options
from orchestrator.commands.running import MAX_WORKERS, bring_up, take_down
from orchestrator.commands.target import Target

json_option = click.option("--json", "as_json", is_flag=True, help="Events as lines of JSON.")


@click.command()
@click.option(
    "--max-workers",
    type=click.IntRange(1, 1024),
    default=MAX_WORKERS,
    show_default=True,
    help="How many nodes may be worked on at once.",
)
@click.option("--no-supervise", is_flag=True, help="Leave no supervisor behind.")
@click.option("--live", is_flag=True, help="Show the graph coming up on the live page.")
@click.option("--thaw", is_flag=True, help="Also where the policy `freeze` has found a difference.")
@json_option
@target_options
def up(
    target: Target, max_workers: int, no_supervise: bool, live: bool, thaw: bool, as_json: bool
) -> None:
    """Bring up everything that is missing; done when a request reached the database.

    A supervisor stays in the background and mends what breaks. It starts last, so that it
    costs no time; with --live first, since the live page is its.
    """
    bring_up(
        target,
        max_workers=max_workers,
        no_supervise=no_supervise,
        live=live,
        thaw=thaw,
        as_json=as_json,
    )


@click.command()
@click.option("--volumes", is_flag=True, help="Data, secrets, logs and journal too.")
@json_option
@target_options
def down(target: Target, volumes: bool, as_json: bool) -> None:
    """Take everything away and leave the host as it was; data stays."""
    take_down(target, volumes=volumes, as_json=as_json)
