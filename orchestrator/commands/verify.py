"""`verify`: proof that the platform is what its stack file says, answer by answer as they come."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins

from orchestrator.commands.check import coloured
from orchestrator.commands.options import target_options
from orchestrator.commands.target import Target, is_terminal
from orchestrator.commands.telling import say, tell
from orchestrator.errors import INTERRUPTED
from orchestrator.hints import hinted
from orchestrator.terminal import clean

if TYPE_CHECKING:
    from orchestrator.proving import Question, Row

EVIDENCE_WIDTH = 40  # columns; commands stand after it, since they are long
PENDING = 3  # names of those that are waited for


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON, all at the end.")
@click.option(
    "--outside",
    is_flag=True,
    help="Also build a temporary outside (203.0.113.0/24) and prove NAT and clients with it.",
)
@target_options
def verify(target: Target, as_json: bool, outside: bool) -> None:
    """Prove the platform: namespaces, bridge, pings, names, ports, NAT, API flows.

    Each row says what was seen and which command shows the same, and appears as soon as that
    is known; none waits longer than a few seconds. Exit code 1 if one fails, or nothing is up.
    """
    from orchestrator.verify import Verification

    app = target.enter()
    begun = time.monotonic()
    verification = Verification(app, with_outside=outside)
    if not (as_json or verification.standing.is_any_there()):
        say(hinted("nothing is up: `orchestrator up` first"), err=True)
        sys.exit(1)
    questions = verification.questions
    rows: list[Row] = []
    try:
        with _showing(questions, as_json=as_json) as show:

            def take(row: Row) -> None:
                rows.append(row)
                show(row)

            asyncio.run(_to_its_end(verification.prove(take)))
    except asyncio.CancelledError:
        sys.exit(INTERRUPTED)
    failed = [row for row in rows if not row.passed]
    if as_json:
        order = {(each.group, each.name): number for number, each in enumerate(questions)}
        rows.sort(key=lambda row: order[row.group, row.name])
        tell({"passed": not failed, "rows": [to_builtins(row) for row in rows]})
    else:
        text = f"{len(rows) - len(failed)} of {len(rows)} proven"
        click.echo(f"{text} in {time.monotonic() - begun:.2f} s")
    if failed:
        sys.exit(1)


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """SIGTERM ends it as Ctrl-C does, so that nothing temporary stays."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work


@contextlib.contextmanager
def _showing(questions: Sequence[Question], *, as_json: bool) -> Iterator[Callable[[Row], None]]:
    """Shows rows as they come; on a terminal also what is still waited for."""
    groups = max((len(each.group) for each in questions), default=0)
    names = max((len(each.name) for each in questions), default=0)

    def lines(row: Row) -> Iterator[str]:
        word = coloured("ok" if row.passed else "fail")
        left = f"{row.group:{groups}}  {row.name:{names}}  {row.evidence:{EVIDENCE_WIDTH}}"
        yield f"{word}  {clean(f'{left}  $ {row.command}')}"
        for detail in row.details:
            yield clean(f"{'':{4 + 2 + groups + 2}}{detail}")

    def show(row: Row) -> None:
        for line in lines(row):
            click.echo(line)

    if as_json:
        yield lambda _: None
    elif not is_terminal():
        yield show
    else:
        from rich.live import Live  # dear to load
        from rich.text import Text

        waited = {(each.group, each.name): None for each in questions}

        def pending() -> Text:
            named = [f"{group} {name}" for group, name in list(waited)[:PENDING]]
            more = f" and {len(waited) - PENDING} more" if len(waited) > PENDING else ""
            text = f"asking: {', '.join(named)}{more}" if waited else ""
            return Text(text, style="cyan", no_wrap=True, overflow="ellipsis")

        with Live(get_renderable=pending, transient=True) as live:

            def above(row: Row) -> None:
                waited.pop((row.group, row.name), None)
                for line in lines(row):
                    live.console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)

            yield above
