"""`validate`, `schema`, `doctor`, `completion`: what can be known before and after."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins
from msgspec.structs import replace

from orchestrator.commands.options import FilePath, target_options
from orchestrator.commands.target import Target, is_coloured
from orchestrator.commands.telling import tell
from orchestrator.errors import HostError, OrchestratorError, SpecError
from orchestrator.hints import hinted
from orchestrator.terminal import counted

if TYPE_CHECKING:
    from orchestrator.app import App

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("file", required=False, type=FilePath())
@target_options
def validate(target: Target, file: Path | None) -> None:
    """Check a stack file and its templates; lists every problem as file:line: path: message."""
    from orchestrator.presence import words
    from orchestrator.validation import check_templates

    target.stack_file = file or target.stack_file
    try:
        app = target.open()
        check_templates(replace(app, stack=app.whole), str(target.stack_file))
    except SpecError as error:
        click.echo(str(error), err=True)  # bare lines, so that editors can jump to them
        sys.exit(error.exit_code)
    stack = app.stack
    counts = {
        "service": len(stack.services),
        "network": len(stack.networks),
        "job": len(stack.jobs),
        "check": len(stack.checks),
        "node": len(app.nodes),
    }
    listed = [counted(count, word) for word, count in counts.items()]
    click.echo(f"{target.stack_file}: valid: {', '.join(listed)}")
    for line in words(app.left_out):
        click.echo(f"  here {line}")


@click.command()
def schema() -> None:
    """Print the stack file's JSON Schema, for editors.

    The file in the repository is made by: orchestrator schema > services/stack.schema.json
    """
    from orchestrator.stackfile import json_schema

    tell(json_schema())


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
@target_options
def doctor(target: Target, as_json: bool) -> None:
    """Check this host: kernel, tools, ports, overlaps, firewalls, each with its mend.

    Changes nothing; what the kernel can do is tried in a throw-away network namespace. Without
    root it tells what it can. Exit code 3 if something would keep the stack from coming up, 2 if
    that is the stack file or an option.
    """
    from orchestrator.doctor import Finding, Level
    from orchestrator.examination import examine

    app, problem, code = _on_host(target)
    findings: list[Finding] = asyncio.run(examine(app, problem, is_new=target.is_absent()))
    failed = [each for each in findings if each.level is Level.FAIL]
    if as_json:
        rows = [to_builtins(each) for each in findings]
        tell({"passed": not failed, "findings": rows})
    else:
        width = max(len(each.check) for each in findings)
        for each in findings:
            click.echo(f"{coloured(each.level)}  {each.check:{width}}  {each.found}")
            if each.mend:
                click.echo(f"{'':4}  {'':{width}}  mend: {hinted(each.mend)}")
        warned = sum(each.level is Level.WARN for each in findings)
        click.echo(f"{len(findings)} checks: {len(failed)} failed, {warned} to know about")
    if failed:
        sys.exit(code)


def _on_host(target: Target) -> tuple[App | None, str, int]:
    """The app, on its host where that exists and may be entered; or why there is none. With the
    exit code if something is found to fail."""
    try:
        app = target.open()
    except OrchestratorError as error:
        return None, str(error), error.exit_code
    try:
        return (app if target.is_absent() else target.enter()), "", HostError.exit_code
    except HostError as error:
        # Not root: this process stays where it is, which is right without --host-netns.
        return app, error.reason if app.lab.host else "", HostError.exit_code


def coloured(level: str) -> str:
    """ok, warn or fail, four wide; coloured for people."""
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[level]
    return click.style(f"{level:4}", fg=colour) if is_coloured() else f"{level:4}"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the shell's completion script.

    \b
    bash:  orchestrator completion bash > ~/.local/share/bash-completion/completions/orchestrator
           (with the package bash-completion), or in ~/.bashrc:
           eval "$(orchestrator completion bash)"
    zsh:   in ~/.zshrc, after compinit:  eval "$(orchestrator completion zsh)"
    fish:  orchestrator completion fish > ~/.config/fish/completions/orchestrator.fish
    """
    from click.shell_completion import get_completion_class

    from orchestrator.cli import cli
    from orchestrator.commandtable import COMPLETE_VARIABLE, PROGRAM

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, PROGRAM, COMPLETE_VARIABLE).source())
