"""What a stack wants, as the pictures want it: its graph, its network, its published ports."""

from __future__ import annotations

from orchestrator.app import App
from orchestrator.drawing.graph import BESIDE, COMPLETED, READY, STARTED, Graph
from orchestrator.drawing.network import Plan, WantedLink
from orchestrator.engine.plan import Stage
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.veth import Veth
from orchestrator.policies import publications_of


def graph_of(app: App) -> Graph:
    """The app's nodes as the drawing wants them."""

    def condition(need: str, stage: Stage) -> str:
        if stage is Stage.STARTED:
            return STARTED
        if stage is Stage.BESIDE:
            return BESIDE
        return COMPLETED if need.startswith("job:") else READY

    return Graph(
        {name: node.layer for name, node in app.nodes.items()},
        {
            name: {need: condition(need, stage) for need, stage in node.needs.items()}
            for name, node in app.nodes.items()
        },
    )


def plan_of(app: App) -> Plan:
    """What the stack wants of the network."""
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
        published=tuple((p.host_port, str(p.address), p.port) for p in publications_of(stack)),
    )
