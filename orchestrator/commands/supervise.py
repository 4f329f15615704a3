"""`supervise`: the supervisor in the foreground, as `up` starts it in the background."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any

import click

from orchestrator import pagenote, resident
from orchestrator.app import App
from orchestrator.commands.draw import graph_of, plan_of
from orchestrator.commands.target import OWN_STACK, RUN_ROOT, STATE_ROOT, Target, target_options
from orchestrator.drawing.network import Network, compare
from orchestrator.front.control import Control, listen
from orchestrator.front.live import Sockets, live
from orchestrator.front.page import Sources
from orchestrator.front.serve import serving
from orchestrator.kernel import iptables
from orchestrator.kernel.netlink import Netlink
from orchestrator.linux import in_thread
from orchestrator.status import status_of
from orchestrator.supervisor import Supervisor

ANSWER_S = 0.1  # for the last bytes of the answer to `down`


@click.command()
@target_options
def supervise(target: Target) -> None:
    """Watch the lab and mend what breaks, until Ctrl-C. Adopts what runs; restarts nothing.

    `up` starts it in the background by itself; this is for a look at its work, or after it
    was ended.
    """
    app = target.enter()
    app.lab.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def tell(text: str) -> None:
        click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        supervisor = Supervisor(app, tell)

        async def end() -> None:
            await target.leave(app)
            asyncio.get_running_loop().call_later(ANSWER_S, task.cancel)

        control = Control(app, rest=supervisor.rest, end=end)
        with contextlib.suppress(asyncio.CancelledError):
            async with (
                serving(control.application(), [listen(app.lab)]),
                live(sockets, sources_of(app, target), bridges),
            ):
                await supervisor.run()

    bridges = [network.address for network in app.stack.networks.values()]
    with resident.hold(app.lab, app.fingerprint()):
        tell(f"supervising {app.lab.name}: {len(app.nodes)} nodes")
        sockets = open_sockets(app, tell)
        asyncio.run(work())
        tell("ended; what runs goes on without me")


def open_sockets(app: App, tell: Callable[[str], None]) -> Sockets:
    """For the page and `/metrics`; says where they are, or what came in the way."""
    port = app.stack.supervision.port
    sockets = Sockets.open([each.address for each in app.stack.networks.values()], port)
    where = f" in the network namespace {app.lab.host}" if app.lab.host else ""
    if sockets.page:
        page = f"http://127.0.0.1:{port}/{where}"
    elif port:
        page = f"none; {sockets.problems[0]}"
    else:
        page = "none; supervision: {port: 0}"
    for problem in sockets.problems:
        tell(str(problem))
    if sockets.page:
        tell(f"page: {page}")
    pagenote.write(app.lab, page)
    return sockets


def sources_of(app: App, target: Target) -> Sources:
    """What the page shows of this lab."""

    async def status() -> dict[str, Any]:
        return status_of(app, await app.observe()).document()

    async def network() -> Network:
        tables = await iptables.save()
        return await in_thread(look, tables)

    def look(tables: iptables.Tables) -> Network:
        from orchestrator.drawing.survey import survey

        plan = plan_of(app)
        return compare(survey(app.lab, plan, Netlink(), tables), plan)

    return Sources(
        about=about(app, target),
        journal=app.lab.journal,
        status=status,
        graph=lambda: graph_of(app),
        network=network,
    )


def about(app: App, target: Target) -> dict[str, Any]:
    """What does not change while this supervisor lives: names, addresses, commands' options."""
    lab, stack = app.lab, app.stack
    options = [f"--host-netns {lab.host}"] if lab.host else []
    if lab.state_root != STATE_ROOT:
        options.append(f"--state-dir {lab.state_root}")
    if lab.run_root != RUN_ROOT:
        options.append(f"--run-dir {lab.run_root}")
    if target.stack_file.resolve() != OWN_STACK:
        options.append(f"--stack {target.stack_file.resolve()}")
    prometheus = stack.address_of("prometheus") if "prometheus" in stack.services else None
    return {
        "lab": lab.name,
        "stack": stack.name,
        "host": lab.host,
        "options": " ".join(options),
        "policy": stack.supervision.policy,
        "digest": app.digest,
        "published": [
            {"service": name, "port": port.host}
            for name, service in stack.services.items()
            for port in service.ports
        ],
        "prometheus": f"http://{prometheus}:9090/" if prometheus else None,
    }
