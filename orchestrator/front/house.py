"""Everything that the supervisor serves and measures, put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from orchestrator import pagenote
from orchestrator.app import App
from orchestrator.front import open as front
from orchestrator.front.control import Control, listen
from orchestrator.front.metrics import LoopLag, Metrics, PathCollector
from orchestrator.front.page import Page
from orchestrator.front.serve import serving
from orchestrator.front.setup_metrics import SetupMetrics
from orchestrator.front.sources import sources_of
from orchestrator.path.watch import PathWatch
from orchestrator.supervisor import Supervisor
from orchestrator.view.kernelview import KernelView

Tell = Callable[[str], None]


@contextlib.asynccontextmanager
async def open_house(
    app: App,
    supervisor: Supervisor,
    tell: Tell,
    *,
    end: Callable[[], Awaitable[None]],
    options: str,
) -> AsyncIterator[None]:
    """Serves the control socket, the page and the metrics, and measures, for the length of
    the block. `end` is awaited once the lab was taken down over the socket; `options` are
    those that a person types to mean this lab."""
    metrics, watch, view = Metrics(), path_watch(app), KernelView(app)
    metrics.add(view.collector, before=view.refresh)
    budget_s = app.stack.supervision.setup_budget_s
    setup = SetupMetrics(app.nodes, app.lab.journal, budget_s=budget_s)
    metrics.add(setup, before=setup.refresh)
    control = Control(
        app, rest=supervisor.rest, wake=supervisor.wake, end=end, watch=watch, metrics=metrics
    )
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(control.application(), [listen(app.lab)]))
        page = Page(sources_of(app, watch, options))
        await _open(stack, app, metrics, page, tell)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        lag = LoopLag()
        metrics.add(lag)
        works = [tasks.create_task(lag.run())]
        if watch is not None:
            metrics.add(PathCollector(watch))
            works.append(tasks.create_task(watch.run()))
        try:
            yield
        finally:
            for work in works:
                work.cancel()


async def _open(
    stack: contextlib.AsyncExitStack, app: App, metrics: Metrics, page: Page, tell: Tell
) -> None:
    """Page and metrics on the loopback, metrics on the bridges; what is taken is told of."""
    port = app.stack.supervision.port
    if not port:
        pagenote.write(app.lab, "none; the stack file says supervision: {port: 0}")
        return
    where = f" in the network namespace {app.lab.host}" if app.lab.host else ""
    note = f"http://{front.LOOPBACK}:{port}/{where}"
    applications = {
        front.LOOPBACK: front.local_application(metrics, page.routes()),
        **{
            str(network.address.ip): front.bridge_application(metrics, network.address)
            for network in app.stack.networks.values()
        },
    }
    for address, application in applications.items():
        try:
            listener = front.listen(address, port)
        except OSError as error:
            problem = f"cannot serve on {address}:{port}: {error.strerror}"
            tell(f"{problem}; going on without")
            if address == front.LOOPBACK:
                note = f"none; {problem}"
            continue
        await stack.enter_async_context(serving(application, [listener]))
    tell(f"page: {note}")
    pagenote.write(app.lab, note)


def path_watch(app: App) -> PathWatch | None:
    """The request path of this stack; None if no service of it logs one."""
    probe = None
    if (name := app.stack.supervision.probe) is not None:
        step = app.stack.checks[name].steps[0]
        probe = (step.url, step.headers)
    for name, service in app.stack.services.items():
        if service.path_log is not None:
            log = app.lab.path_logs(name) / Path(service.path_log).name
            one_in = app.stack.supervision.trace_one_in
            mark = f"{app.lab.mark}/service:{name}"
            return PathWatch(name, log, mark, one_in=one_in, probe=probe)
    return None
