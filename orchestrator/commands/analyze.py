"""`analyze`: what a run's time went to, from the journal alone; nothing is run or changed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from orchestrator.commands.options import target_options
from orchestrator.commands.target import Target
from orchestrator.commands.telling import tell
from orchestrator.drawing import timings as draw
from orchestrator.errors import HostError, UsageError
from orchestrator.sights import journal
from orchestrator.sights import runs as recorded
from orchestrator.sights.compare import compare
from orchestrator.sights.critical import critical_chain
from orchestrator.sights.phases import RunSpan
from orchestrator.sights.timings import times
from orchestrator.sights.whatif import parse, play
from orchestrator.terminal import counted

json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, in nanoseconds.")


@click.group()
def analyze() -> None:
    """What the time of a run went to, from the journal alone; nothing is run or changed.

    A node's time is cut into dependency_wait, slot_wait, provision, backoff and readiness_wait;
    the critical path is the chain of releases that the run had to wait for.
    """


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the target's options, --run, --command and --json; gives the run and `as_json`."""

    @target_options
    @click.option(
        "--run", "word", default="", metavar="RUN", help="A run's id, its beginning, or `last`."
    )
    @click.option(
        "--command",
        "of",
        default="up",
        show_default=True,
        metavar="NAME",
        help="Without --run: the last run of this command (up, down, replay, heal, prune, rotate) "
        "that changed anything.",
    )
    @json_option
    @functools.wraps(command)
    def wrapped(target: Target, *args: Any, word: str, of: str, **kwargs: Any) -> Any:
        with journal_of(target) as path:
            run = recorded.choose(recorded.heads(path), word, command=of)
            span = recorded.load(path, {run})[run]
        return command(span, *args, **kwargs)

    return wrapped


@contextmanager
def journal_of(target: Target) -> Iterator[Path]:
    """The lab's journal; a warning if a part of it is damaged. Raises UsageError if there is none,
    HostError if it cannot be read."""
    path = target.open().lab.journal
    try:
        if not path.exists():
            raise UsageError(f"there is no journal {path} yet; `orchestrator up` begins it")
        if count := journal.damaged(path):
            click.echo(f"warning: {counted(count, 'damaged line')} left out of {path}", err=True)
        yield path
    except PermissionError as error:
        raise HostError(f"cannot read {path}", mend="run it with sudo") from error


@analyze.command(short_help="Nodes by their own time, phases in columns.")
@run_options
def blame(run: RunSpan, as_json: bool) -> None:
    """Nodes by their own time, with every phase and how much longer each could have taken."""
    if as_json:
        tell(draw.run_document(run))
    else:
        click.echo(draw.blame_text(run), nl=False)


@analyze.command("critical-chain", short_help="What the run had to wait for.")
@run_options
def critical_chain_(run: RunSpan, as_json: bool) -> None:
    """The chain of releases that the run had to wait for, from its end back to its start."""
    if as_json:
        tell(draw.chain_document(run))
    else:
        click.echo(draw.chain_text(run), nl=False)


@analyze.command(short_help="The run as a picture (SVG).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to this file.",
)
@run_options
def plot(run: RunSpan, output: Path | None, as_json: bool) -> None:
    """The run as a picture (SVG): one bar for each node, coloured by phase."""
    from orchestrator.drawing.gantt import as_svg

    if as_json:
        text = json.dumps(draw.run_document(run), indent=2, ensure_ascii=False) + "\n"
    else:
        text = as_svg(run)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error


@analyze.command("what-if", short_help="The run with other times or fewer slots.")
@click.argument("expressions", nargs=-1, metavar="[NODE=CHANGE]...")
@click.option("--max-workers", type=click.IntRange(1, 1024), help="With that many slots.")
@run_options
def what_if(
    run: RunSpan, expressions: tuple[str, ...], max_workers: int | None, as_json: bool
) -> None:
    """How long the run would have taken, had nodes taken another time.

    NODE=-300ms, NODE=+1s, NODE=50% and NODE=200ms change a node's own time, NODE.PHASE=… one of
    provision, backoff and readiness_wait alone. Nodes, needs and slots are those of the run.
    """
    changes = [parse(text, run.nodes) for text in expressions]
    same, other = play(run), play(run, changes, max_workers=max_workers or 0)
    gain_ns = other.wall_ns - same.wall_ns
    if as_json:
        tell(
            {
                "recorded_wall_ns": run.wall_ns,
                "replayed_wall_ns": same.wall_ns,
                "wall_ns": run.wall_ns + gain_ns,
                "change_ns": gain_ns,
                "chain": draw.chain_document(other),
            }
        )
        return
    rest = draw.took(run.wall_ns - same.wall_ns)
    what = [*expressions, *([f"{max_workers} workers"] if max_workers else [])]
    click.echo(f"{run.command} {run.run} took {draw.took(run.wall_ns)}")
    click.echo(f"played again as it was: {draw.took(same.wall_ns)}, hand-overs {rest}")
    click.echo(
        f"with {', '.join(what) or 'no change'}: {draw.took(run.wall_ns + gain_ns)} "
        f"({draw.change(gain_ns) or 'the same'}), and this critical path without hand-overs:\n"
    )
    click.echo(draw.links_text(critical_chain(other)), nl=False)


@analyze.command(short_help="Two runs compared.")
@click.argument("first", metavar="RUN1")
@click.argument("second", metavar="RUN2")
@json_option
@target_options
def diff(target: Target, first: str, second: str, as_json: bool) -> None:
    """Two runs compared, node by node and phase by phase, the largest change first."""
    with journal_of(target) as path:
        known = recorded.heads(path)
        names = [recorded.choose(known, word, command="") for word in (first, second)]
        spans = recorded.load(path, set(names))
    before, after = (spans[name] for name in names)
    found = compare(before, after)
    if as_json:
        tell(draw.difference_document(before, after, found))
    else:
        click.echo(draw.difference_text(before, after, found), nl=False)


@analyze.command(short_help="The last recorded runs.")
@click.option("-n", "--last", type=click.IntRange(1), default=20, show_default=True, metavar="N")
@click.option("--command", "of", default="", metavar="NAME", help="Only runs of this command.")
@json_option
@target_options
def runs(target: Target, last: int, of: str, as_json: bool) -> None:
    """The last recorded runs: what each did, how it ended, how long, and its floor."""
    with journal_of(target) as path:
        heads = [head for head in recorded.heads(path) if not of or head.command == of][-last:]
        found = recorded.load(path, {head.run for head in heads})
    rows = [times(run) for run in found.values()]
    if as_json:
        tell([draw.summary_document(row) for row in rows])
    elif rows:
        click.echo(draw.runs_text(rows), nl=False)
    else:
        click.echo("no run is recorded")
