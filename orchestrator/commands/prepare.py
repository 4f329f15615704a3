"""`prepare`: what every new lab needs, made once for this machine."""

from __future__ import annotations

import click

from orchestrator import known
from orchestrator.app import require_root
from orchestrator.commands.options import target_options
from orchestrator.commands.running import run_to_end
from orchestrator.commands.target import Target
from orchestrator.places import CACHE_OPTION, check_cache, make_directory
from orchestrator.preparing import prepare as make
from orchestrator.processes.prepared import DIRECTORY_MODE


@click.command()
@target_options
def prepare(target: Target) -> None:
    """Make what every new lab needs, once for this machine.

    Of the shop that is PostgreSQL's data directory as initdb makes it, without any password. It is
    kept in --cache-dir; the next `up` with an empty state directory copies it. What is there is
    left alone, what is damaged or not root's is replaced. What reading the stack file came to is
    kept, too: the next commands need not read it. The supervisor does the same by itself.
    """
    app = target.open()
    require_root()
    check_cache(app.lab, known.DIRECTORY)
    make_directory(app.lab.cache_root, mode=DIRECTORY_MODE, options=CACHE_OPTION)
    for node, what in run_to_end(app, make(app), left="nothing else is prepared").items():
        click.echo(f"{node}: {what}")
