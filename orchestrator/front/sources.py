"""Where the live page's facts come from."""

from __future__ import annotations

from typing import Any

from orchestrator.app import App
from orchestrator.drawing.network import Network, compare
from orchestrator.front.page import Sources
from orchestrator.kernel import iptables
from orchestrator.linux import in_thread
from orchestrator.outline import graph_of, plan_of
from orchestrator.path.watch import PathWatch
from orchestrator.status import look as look_at


def sources_of(app: App, watch: PathWatch | None, options: str) -> Sources:
    """What the page shows of this lab; `options` are those that mean it on a command line."""

    async def status() -> dict[str, Any]:
        return (await look_at(app)).document()

    async def network() -> Network:
        tables = await iptables.save()
        return await in_thread(look, tables)

    def look(tables: iptables.Tables) -> Network:
        from orchestrator.drawing.survey import survey

        plan = plan_of(app)
        return compare(survey(app.lab, plan, app.compiler.netlink, tables), plan)

    found = Sources(
        about=about(app, options),
        journal=app.lab.journal,
        status=status,
        graph=lambda: graph_of(app),
        network=network,
    )
    if watch is not None:
        found.path, found.trace = watch.document, watch.trace
    return found


def about(app: App, options: str) -> dict[str, Any]:
    """What does not change while this supervisor lives: names, addresses, commands' options."""
    lab, stack = app.lab, app.stack

    def url(service: str, port: int) -> str | None:
        there = service in app.stack.services
        return f"http://{stack.address_of(service)}:{port}/" if there else None

    return {
        "lab": lab.name,
        "stack": stack.name,
        "host": lab.host,
        "options": options,
        "policy": stack.supervision.policy,
        "digest": app.digest,
        "published": [
            {"service": name, "port": port.host}
            for name, service in stack.services.items()
            for port in service.ports
        ],
        "prometheus": url("prometheus", 9090),
        "grafana": url("grafana", 3000),
    }
