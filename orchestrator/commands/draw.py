"""`graph`, `topology` and `rules`: pictures of the plan, the network and the firewall."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import target_options
from orchestrator.commands.target import Target, is_coloured
from orchestrator.commands.telling import tell
from orchestrator.hints import hinted
from orchestrator.terminal import clean

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.drawing.rules import Row
    from orchestrator.kernel.iptables import Tables

SERVICE_KINDS = ("service:", "job:", "check:")


def form_option(name: str, help_text: str) -> Callable[..., Any]:
    """One of several flags of which one chooses the output's form. Raises UsageError for two."""

    def choose(context: click.Context, _: click.Parameter, is_given: bool) -> None:
        before = context.params.setdefault("form", None)
        if is_given and before:
            raise click.UsageError(f"--{before} and --{name}: one form at a time")
        if is_given:
            context.params["form"] = name

    return click.option(
        f"--{name}", is_flag=True, expose_value=False, callback=choose, help=help_text
    )


@click.command()
@form_option("mermaid", "As a Mermaid flowchart, for Markdown.")
@form_option("dot", "As DOT, for Graphviz.")
@form_option("svg", "As a picture.")
@click.option("--services", is_flag=True, help="Services, jobs and checks only.")
@click.option("--implied", is_flag=True, help="Also needs that other needs imply.")
@target_options
def graph(target: Target, form: str | None, services: bool, implied: bool) -> None:
    """The dependency graph, layer by layer; needs neither root nor a running lab.

    What a node waits for stands after the arrow: that it is ready, where nothing else is said.
    """
    from orchestrator.drawing.graph import as_dot, as_mermaid, as_text
    from orchestrator.outline import graph_of

    app = target.open()
    drawn = graph_of(app)
    if services:
        drawn = drawn.only(name for name in drawn.needs if name.startswith(SERVICE_KINDS))
    if not implied:
        drawn = drawn.reduced()
    title = f"{app.stack.name}: dependency graph"
    if form == "svg":
        from orchestrator.drawing.graph_svg import as_svg

        click.echo(as_svg(title, drawn), nl=False)
    else:
        render = {"mermaid": as_mermaid, "dot": as_dot}.get(form or "", as_text)
        click.echo(render(title, drawn), nl=False)


@click.command()
@form_option("svg", "As a picture.")
@form_option("json", "As JSON.")
@target_options
def topology(target: Target, form: str | None) -> None:
    """The network as the kernel has it now: bridges, ports, namespaces, addresses, sockets.

    What is foreign, down or missing is marked, and what the plan has beyond it is listed.
    """
    from msgspec import to_builtins

    from orchestrator.drawing.network import compare
    from orchestrator.drawing.survey import survey
    from orchestrator.kernel import iptables
    from orchestrator.outline import plan_of

    app = target.enter()
    tables = asyncio.run(iptables.save())
    plan = plan_of(app)
    seen = compare(survey(app.lab, plan, app.compiler.netlink, tables), plan)
    if form == "json":
        tell(to_builtins(seen))
    elif form == "svg":
        from orchestrator.drawing.topology_svg import as_svg

        click.echo(as_svg(seen), nl=False)
    else:
        from orchestrator.drawing.topology import as_text

        _print(as_text(seen))


@click.command()
@click.option("--explain", is_flag=True, help="Why each rule is there, and each port's way.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@target_options
def rules(target: Target, explain: bool, as_json: bool) -> None:
    """Our iptables rules, live, with counters, in the order in which packets meet them.

    A wanted rule that is missing and one of ours that nobody wants are marked with ✗.
    """
    from msgspec import to_builtins

    from orchestrator.drawing.rules import as_text, flows_text
    from orchestrator.kernel import iptables
    from orchestrator.policies import publications_of

    app = target.enter()
    live = asyncio.run(iptables.save())
    found = rows_of(app, live)
    if as_json:
        tell([to_builtins(row) for row in found])
        return
    if explain and (summary := flows_text(publications_of(app.stack), found)):
        _print(summary + "\n")
    _print(as_text(found, live, explain=explain))
    wrong = sum(row.state != "live" for row in found)
    if wrong == len(found):
        click.echo(hinted("none of these is live: `orchestrator up` makes them"), err=True)
    elif wrong:
        click.echo(f"{wrong} of {len(found)} rules are not as wanted", err=True)


@click.command()
@click.option("--explain", is_flag=True, help="Each flow with its rule, counter and reason.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@target_options
def policy(target: Target, explain: bool, as_json: bool) -> None:
    """Who may connect to which port of whom, with the connections so far; all else is refused.

    Read off the rules that the kernel enforces now, on the host and in each namespace. Exit code
    0 if they are as wanted, 1 if not.
    """
    from msgspec import to_builtins

    from orchestrator.drawing.policy import as_text, explained
    from orchestrator.policychart import chart_of

    app = target.enter()
    chart = asyncio.run(chart_of(app))
    if as_json:
        tell(to_builtins(chart))
    else:
        _print(as_text(chart))
        if explain:
            _print("\n" + explained(chart))
    if chart.wrong and not app.lab.run_dir.exists():
        click.echo(hinted("none of these is enforced: `orchestrator up` does it"), err=True)
    else:
        for node, words in chart.wrong.items():
            click.echo(clean(f"{node} is not as wanted: {words}"), err=True)
    if chart.missing or chart.wrong:
        sys.exit(1)


def rows_of(app: App, live: Tables) -> list[Row]:
    """Our rules, live and wanted."""
    from orchestrator.drawing.rules import rows
    from orchestrator.kernel.nat import Nat

    nat = app.nodes["nat:rules"].resource
    assert isinstance(nat, Nat)
    return rows(nat.wanted, live, nat.is_ours, app.lab.mark)


def _print(text: str) -> None:
    """Lines that tell of something wrong are red for people."""
    for line in text.splitlines():
        red = is_coloured() and ("✗" in line or "foreign" in line)
        click.echo(click.style(line, fg="red") if red else line)
