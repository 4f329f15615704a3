"""`path` and `trace`: where the time of a request goes."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.app import App
from orchestrator.commands.options import target_options
from orchestrator.commands.target import Target, is_terminal
from orchestrator.commands.telling import tell
from orchestrator.front.pulse import ask
from orchestrator.path.traceroute import Step, traceroute
from orchestrator.terminal import clean, counted

WIDTH = 110  # where there is no terminal to ask
NARROW = 100  # below it the median and the 99th percentile are left out
BAR = 40
EVERY_S = 1.0
PATIENCE_S, PAUSE_S = 3.0, 0.2


@click.command()
@click.option("--probe", is_flag=True, help="Ask hop after hop, trusting none of their stamps.")
@click.option("--watch", is_flag=True, help="Go on each second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@target_options
def path(target: Target, probe: bool, watch: bool, as_json: bool) -> None:
    """The request path now: rates, times and errors of each hop and each way between two.

    Times are those of the last ten seconds. --probe is a traceroute for HTTP: OPTIONS with
    Max-Forwards 0, 1, 2, … (RFC 9110, 7.6.2), timed from here.
    """
    app = target.enter() if probe else target.open()

    def look() -> Any:
        if probe:
            steps = asyncio.run(traceroute(_url(app)))
            return [step.document() for step in steps] if as_json else _probe_table(steps)
        document = ask(app.lab, "/path") if watch else _first(app)
        if as_json:
            return document
        return _map(document, console.width) if document["request"] else _nothing(app)

    console = Console() if is_terminal() else Console(width=WIDTH)
    if not watch:
        found = look()
        tell(found) if as_json else console.print(found)
        return
    if as_json or not is_terminal():
        while True:
            found = look()
            click.echo(json.dumps(found)) if as_json else console.print(found)
            time.sleep(EVERY_S)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(look(), refresh=True)
            time.sleep(EVERY_S)


def _first(app: App) -> Any:
    """The path, with some patience for its first request: after `up` the supervisor looks twice,
    a second apart, before it knows of one."""
    until = time.monotonic() + PATIENCE_S
    while (document := ask(app.lab, "/path"))["request"] is None and time.monotonic() < until:
        time.sleep(PAUSE_S)
    return document


def _nothing(app: App) -> Text:
    """With the command that makes a request."""
    inside = f"ip netns exec {app.lab.host} " if app.lab.host else ""
    return Text(f"no request in the last ten seconds; this makes one: {inside}curl {_url(app)}")


def _url(app: App) -> str:
    """What the stack's own probe asks for; without one, the first published port."""
    if (name := app.stack.supervision.probe) is not None:
        return app.stack.checks[name].steps[0].url
    for service in app.stack.services.values():
        for port in service.ports:
            return f"http://localhost:{port.host}/"
    raise click.UsageError("no service of this stack has a published port")


def _map(document: dict[str, Any], width: int) -> Group:
    """Hops in the order of the path, with the ways between them."""
    request = document["request"]
    head = Text(
        f"{request['rate_rps']:.1f} requests/s   mean {_ms(request['mean_ms'])}   "
        f"p50 {_ms(request['p50_ms'])}   p95 {_ms(request['p95_ms'])}   "
        f"p99 {_ms(request['p99_ms'])}   errors {request['error_ratio']:.1%}"
    )
    parts = ("mean", "p95") if width < NARROW else ("mean", "p50", "p95", "p99")
    table = _table("hop", "/s", *(f"{each} ms" for each in parts), "request ms", "errors", "")
    bar = 6 if width < NARROW else 12
    hops = {row["name"]: row for row in document["hops"]}
    most = max((row["per_request_ms"] for row in hops.values()), default=1.0) or 1.0
    for name in _ordered(document):
        row = hops.get(name)
        if row is None:
            continue
        own = row["self_ms"]
        is_slowest = name == document["slowest"]
        table.add_row(
            Text(name, style="bold" if is_slowest else ""),
            f"{row['rate_rps']:.1f}",
            *(_number(own[key]) for key in parts),
            _number(row["per_request_ms"]),
            f"{row['error_ratio']:.1%}",
            "█" * max(1, round(bar * row["per_request_ms"] / most)) + ("  slowest" * is_slowest),
        )
    ways = _table("way", "/s", "there ms", "back ms", "p95 ms", "errors")
    for row in document["edges"]:
        times = row["transit_ms"] or {}
        ways.add_row(
            f"{row['client']} → {row['server']}",
            f"{row['rate_rps']:.1f}",
            *(_number(times.get(key)) for key in ("there", "back", "p95")),
            f"{row['error_ratio']:.1%}",
        )
    notes = []
    if request["own_rps"]:
        notes.append(
            Text(f"the orchestrator's own requests among them: {request['own_rps']:.1f}/s")
        )
    if document["resolution_s"] > 1e-6:
        notes.append(
            Text(
                f"the edge's clock ticks in {document['resolution_s'] * 1000:g} ms: "
                "libnginx-mod-http-perl makes it microseconds"
            )
        )
    return Group(head, Text(), table, Text(), ways, *notes)


def _ordered(document: dict[str, Any]) -> list[str]:
    """Hops as a request meets them: callers before what they call."""
    order: list[str] = []
    edges = [(row["client"], row["server"]) for row in document["edges"]]
    servers = {server for _, server in edges}
    frontier = [row["name"] for row in document["hops"] if row["name"] not in servers]
    frontier += [server for client, server in edges if client == "client"]
    while frontier:
        name = frontier.pop(0)
        if name not in order:
            order.append(name)
            frontier += [server for client, server in edges if client == name]
    return [*order, *(row["name"] for row in document["hops"] if row["name"] not in order)]


def _table(*columns: str) -> Table:
    """Words to the left, numbers to the right; a number is never broken nor cut."""
    table = Table(box=None, padding=(0, 1))
    for name in columns:
        is_word = name in ("hop", "way", "answered by", "")
        table.add_column(name, justify="left" if is_word else "right", no_wrap=True)
    return table


def _ms(value: float) -> str:
    return f"{value:.2f} ms"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _probe_table(steps: list[Step]) -> Table:
    table = _table("#", "answered by", "median ms", "this hop ms", "best ms", "worst ms")
    before_ms = 0.0
    for number, step in enumerate(steps):
        table.add_row(
            str(number),
            Text(clean(step.name)),
            _number(step.median_ms),
            _number(max(0.0, step.median_ms - before_ms)),
            _number(step.best_ms),
            _number(step.worst_ms),
        )
        before_ms = step.median_ms
    return table


@click.command()
@click.argument("which", default="last", metavar="[last|ID]")
@click.option("--list", "as_list", is_flag=True, help="The requests that are kept.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@target_options
def trace(target: Target, which: str, as_list: bool, as_json: bool) -> None:
    """One request as a waterfall: the last one, or that of a trace id (its beginning will do).

    The last hundred requests are kept, and one in ten of the last ten thousand. What the
    orchestrator itself asks (each second, and /health) is no last one; --json lists it too.
    """
    lab = target.open().lab
    console = Console() if is_terminal() else Console(width=WIDTH)
    if as_list:
        rows = ask(lab, "/traces")
        if as_json:
            tell(rows)
            return
        table = Table(box=None, padding=(0, 1))
        for name in ("trace", "time", "status", "total", "route"):
            table.add_column(name, no_wrap=True)
        users = [row for row in rows if not row["own"]]
        for row in users:
            at = datetime.fromtimestamp(row["at"]).strftime("%H:%M:%S")
            total = _ms(row["total_ms"])
            table.add_row(row["id"], at, str(row["status"]), total, Text(clean(row["route"])))
        if users:
            console.print(table)
        if own := len(rows) - len(users):
            click.echo(
                f"{counted(len(users), 'request')}, and {own} of the orchestrator's own (--json)"
            )
        return
    which = which.lower()
    if which != "last" and not (0 < len(which) <= 32 and set(which) <= set("0123456789abcdef")):
        raise click.UsageError(f"{which!r} is no trace id: up to 32 hexadecimal digits")
    found = ask(lab, f"/trace/{which}")
    tell(found) if as_json else console.print(_waterfall(found, console.width))


def _waterfall(found: dict[str, Any], width: int) -> Group:
    at = datetime.fromtimestamp(found["at"]).strftime("%H:%M:%S")
    head = Text(
        f"{found['id']}  {at}  {found['status']}  {clean(found['path'])}  {_ms(found['total_ms'])}"
    )
    table = _table("hop", "start ms", "took ms", "itself ms", "result", "")
    hops = ["  " * span["depth"] + clean(span["hop"]) for span in found["spans"]]
    rest = max(map(len, hops), default=0) + 4 * 12  # the numbers, the result, what is between
    bar = max(8, min(BAR, width - rest))
    whole = found["total_ms"] or 1.0
    for hop, span in zip(hops, found["spans"], strict=True):
        first = min(bar - 1, round(bar * span["start_ms"] / whole))
        length = max(1, min(bar - first, round(bar * span["duration_ms"] / whole)))
        table.add_row(
            Text(hop),
            *(_number(span[key]) for key in ("start_ms", "duration_ms", "self_ms")),
            Text(clean(span["result"])),
            " " * first + "█" * length,
        )
    notes = [Text("somebody on the way did not tell of it")] if found["is_partial"] else []
    return Group(head, table, *notes)
