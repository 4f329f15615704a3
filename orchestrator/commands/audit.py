"""`audit`: whether what runs is as closed as is claimed, with the evidence."""

from __future__ import annotations

import asyncio
import sys

import click
from msgspec import to_builtins

from orchestrator.commands.options import target_options
from orchestrator.commands.target import Target, is_coloured
from orchestrator.commands.telling import tell
from orchestrator.terminal import clean

COLOURS = {"pass": "green", "fail": "red", "skip": "yellow"}


@click.command()
@click.option("--all", "everything", is_flag=True, help="The evidence of each subject.")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
@target_options
def audit(target: Target, everything: bool, as_json: bool) -> None:
    """Check the live processes, files and servers: users, capabilities, namespaces, mounts,
    secrets, limits, sockets, grants.

    From /proc and from the servers' own words, not from the plan; changes nothing. Exit code 1
    if something is not as claimed, or cannot be looked at: a server that does not answer, a
    secret that is gone; all else is looked at then, too.
    """
    from orchestrator.audit.examine import audit as look
    from orchestrator.audit.findings import CHECKS, Verdict

    app = target.enter()
    findings = asyncio.run(look(app))
    failed = [each for each in findings if each.verdict is Verdict.FAIL]
    if as_json:
        rows = [{"title": CHECKS[each.check], **to_builtins(each)} for each in findings]
        tell({"passed": not failed, "findings": rows})
        sys.exit(1 if failed else 0)
    for check, title in CHECKS.items():
        mine = [each for each in findings if each.check == check]
        if not mine:
            continue
        verdict = next(
            (v for v in (Verdict.FAIL, Verdict.SKIP) if any(each.verdict is v for each in mine)),
            Verdict.PASS,
        )
        mark = (
            click.style(verdict.upper(), fg=COLOURS[verdict]) if is_coloured() else verdict.upper()
        )
        click.echo(f"{mark}  {check:4}  {title}  ({len(mine)} looked at)")
        for each in mine:
            if everything or each.verdict is not Verdict.PASS:
                line = f"{each.verdict:4}  {each.subject}: {each.evidence}"
                click.echo(f"            {clean(line)}")
    click.echo(f"{len(findings)} findings, {len(failed)} failed")
    if failed:
        sys.exit(1)
