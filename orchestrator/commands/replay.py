"""`replay`: the command; replaying.py does it."""

from __future__ import annotations

import click

from orchestrator.commands.completing import LAYERS, NODES, Named
from orchestrator.commands.options import name_or_all, target_options
from orchestrator.commands.replaying import carry_out
from orchestrator.commands.target import Target
from orchestrator.front import asking
from orchestrator.front.wire import Answer


@click.command()
@click.argument(
    "what",
    required=False,
    type=Named(LAYERS, NODES),
    callback=name_or_all,
    metavar="[LAYER|NODE]",
)
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

    def ask() -> Answer | None:
        if not (known := target.known()):
            return None
        lab, digest = known
        return asking.replay(
            str(lab.run_dir), digest, what, dry_run=dry_run, no_deps=no_deps, cascade=cascade
        )

    carry_out(
        target,
        what,
        dry_run=dry_run,
        no_deps=no_deps,
        cascade=cascade,
        as_json=as_json,
        ask=ask,
    )
