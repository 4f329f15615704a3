"""`why`: the first broken layer on the way to a node, with its evidence."""

from __future__ import annotations

import asyncio
import sys

import click

from orchestrator.app import App
from orchestrator.commands.completing import NODES, Named
from orchestrator.commands.options import name_or_all, target_options
from orchestrator.commands.target import Target, is_coloured, node_argument
from orchestrator.commands.telling import tell
from orchestrator.commands.watching import complain
from orchestrator.diagnosis.findings import Verdict
from orchestrator.errors import UsageError
from orchestrator.front.pulse import MEND, ailment
from orchestrator.hints import hinted, hinted_document
from orchestrator.terminal import clean

COLOURS = {Verdict.OK: "green", Verdict.BROKEN: "red", Verdict.DRIFT: "yellow"}


@click.command()
@click.argument("name", required=False, type=Named(NODES), callback=name_or_all, metavar="[NODE]")
@click.option("--all", "everything", is_flag=True, help="Every layer of everything it needs.")
@click.option("--json", "as_json", is_flag=True, help="The diagnosis as JSON.")
@target_options
def why(target: Target, name: str, everything: bool, as_json: bool) -> None:
    """Why NODE does not answer: walks from the client's side to the data and names the first
    broken layer, with what was seen and the command that shows the same.

    Follows the needs to the deepest culprit. Without NODE: the whole platform. Changes nothing.
    Exit code 0 if all is well, 1 if something is broken.
    """
    from orchestrator.diagnosis import report
    from orchestrator.diagnosis.examine import diagnose

    node = _node(target.open(), name) if name else ""
    app = target.enter()
    found = asyncio.run(diagnose(app, node))
    if as_json:
        tell(hinted_document(report.as_json(found)))
    else:
        is_up = app.lab.run_dir.exists()
        mend = "" if is_up else "orchestrator up  # nothing is up"
        for verdict, line in report.lines(found, everything=everything, mend=mend):
            colour = COLOURS.get(verdict) if verdict and is_coloured() else None
            click.secho(clean(hinted(line)), fg=colour)
    if what := ailment(app.lab):
        complain(f"{what}{MEND}")
    if not found.is_well:
        sys.exit(1)


def _node(app: App, name: str) -> str:
    """The node that is meant, by any name that the graph or a person has for it."""
    try:
        return node_argument(app, name)
    except UsageError:
        for kind in ("veth", "check", "sysctl", "nat", "link", "mount"):
            if f"{kind}:{name}" in app.nodes:
                return f"{kind}:{name}"
        raise
