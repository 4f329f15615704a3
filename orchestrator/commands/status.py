"""`status`: the command; statustable.py does it."""

from __future__ import annotations

import click

from orchestrator.commands.options import target_options
from orchestrator.commands.statustable import show
from orchestrator.commands.target import Target
from orchestrator.front import asking
from orchestrator.front.wire import Answer


@click.command()
@click.option("--json", "as_json", is_flag=True, help="All nodes as JSON.")
@click.option("--all", "everything", is_flag=True, help="Links, rules and jobs too.")
@target_options
def status(target: Target, as_json: bool, everything: bool) -> None:
    """What is there now: state, pid, address, uptime, restarts, time to ready, last error."""

    def ask() -> Answer | None:
        return asking.status(str(known[0].run_dir), known[1]) if (known := target.known()) else None

    show(target, as_json=as_json, everything=everything, ask=ask)
