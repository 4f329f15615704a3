"""`graph`, `topology` and `rules`: pictures of the plan, the network and the firewall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.target import Target, is_terminal, target_options

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.drawing.graph import Graph
    from orchestrator.drawing.network import Plan
    from orchestrator.drawing.rules import Row
    from orchestrator.kernel.iptables import Tables
    from orchestrator.kernel.nat import Publication

SERVICE_KINDS = ("service:", "job:", "check:")


def form_option(name: str, help_text: str) -> Callable[..., Any]:
    """One of several flags that choose the output's form; the last one given counts."""
    return click.option(f"--{name}", "form", flag_value=name, type=str, help=help_text)


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


def graph_of(app: App) -> Graph:
    """The app's nodes as the drawing wants them."""
    from orchestrator.drawing.graph import COMPLETED, READY, STARTED, Graph
    from orchestrator.engine.plan import Stage

    def condition(need: str, stage: Stage) -> str:
        if stage is Stage.STARTED:
            return STARTED
        return COMPLETED if need.startswith("job:") else READY

    return Graph(
        {name: node.layer for name, node in app.nodes.items()},
        {
            name: {need: condition(need, stage) for need, stage in node.needs.items()}
            for name, node in app.nodes.items()
        },
    )


@click.command()
@form_option("svg", "As a picture.")
@form_option("json", "As JSON.")
@target_options
def topology(target: Target, form: str | None) -> None:
    """The network as the kernel has it now: bridges, ports, namespaces, addresses, sockets.

    What is foreign, down or missing is marked, and what the plan has beyond it is listed.
    """
    from dataclasses import asdict

    from orchestrator.drawing.network import compare
    from orchestrator.drawing.survey import survey
    from orchestrator.kernel import iptables

    app = target.enter()
    tables = asyncio.run(iptables.save())
    plan = plan_of(app)
    seen = compare(survey(app.lab, plan, app.compiler.netlink, tables), plan)
    if form == "json":
        click.echo(json.dumps(asdict(seen), indent=2, ensure_ascii=False))
    elif form == "svg":
        from orchestrator.drawing.topology_svg import as_svg

        click.echo(as_svg(seen), nl=False)
    else:
        from orchestrator.drawing.topology import as_text

        _print(as_text(seen))


def plan_of(app: App) -> Plan:
    """What the stack wants of the network."""
    from orchestrator.drawing.network import Plan, WantedLink
    from orchestrator.kernel.namespace import Namespace
    from orchestrator.kernel.veth import Veth

    stack = app.stack
    resources = [node.resource for node in app.nodes.values()]
    names = {
        each.path: each.name.removeprefix("netns:")
        for each in resources
        if isinstance(each, Namespace)
    }
    listens = []
    for name, service in stack.services.items():
        if service.command is not None:
            ready = service.readiness
            probes = (ready.http, ready.postgres, ready.redis)
            ports = [ready.tcp, *(probe.port for probe in probes if probe)]
            ports += [port.service for port in service.ports]
            label = stack.namespace_of(name)
            unique = dict.fromkeys(port for port in ports if port is not None)
            listens += [(f"service:{name}", label, port) for port in unique]
    return Plan(
        bridges={name: str(network.address) for name, network in stack.networks.items()},
        places={label: path.name for path, label in names.items()},
        links=tuple(
            WantedLink(
                each.name,
                names[each.namespace],
                each.bridge,
                each.outer,
                each.inner,
                str(each.address),
                str(each.gateway or ""),
            )
            for each in resources
            if isinstance(each, Veth)
        ),
        listens=tuple(listens),
        published=tuple((p.host_port, str(p.address), p.port) for p in publications_of(app)),
    )


def publications_of(app: App) -> list[Publication]:
    """The stack's published ports, with the bridge that each leads to."""
    from orchestrator.kernel.nat import Publication

    stack = app.stack
    return [
        Publication(port.host, network, attachment.address, port.service)
        for name, service in stack.services.items()
        for port in service.ports
        for network, attachment in list(stack.services[stack.home_of(name)].networks.items())[:1]
    ]


@click.command()
@click.option("--explain", is_flag=True, help="Why each rule is there, and each port's way.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@target_options
def rules(target: Target, explain: bool, as_json: bool) -> None:
    """Our iptables rules, live, with counters, in the order in which packets meet them.

    A wanted rule that is missing and one of ours that nobody wants are marked with ✗.
    """
    from dataclasses import asdict

    from orchestrator.drawing.rules import as_text, flows_text
    from orchestrator.kernel import iptables

    app = target.enter()
    live = asyncio.run(iptables.save())
    found = rows_of(app, live)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in found], indent=2, ensure_ascii=False))
        return
    if explain and (summary := flows_text(publications_of(app), found)):
        _print(summary + "\n")
    _print(as_text(found, live, explain=explain))
    wrong = sum(row.state != "live" for row in found)
    if wrong == len(found):
        click.echo("none of these is live: `orchestrator up` makes them", err=True)
    elif wrong:
        click.echo(f"{wrong} of {len(found)} rules are not as wanted", err=True)


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
        red = is_terminal() and ("✗" in line or "foreign" in line)
        click.echo(click.style(line, fg="red") if red else line)
