"""`exec` and `shell`: into a service's namespace, as `ip netns exec` does it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from orchestrator import linux
from orchestrator.app import App, require_root
from orchestrator.commands.completing import SERVICES, Named
from orchestrator.commands.options import target_options
from orchestrator.commands.target import Target, service_argument
from orchestrator.errors import HostError, ResourceError
from orchestrator.terminal import clean_lines

NOT_RUN, NOT_FOUND = 126, 127  # as shells, env and docker end where a command cannot run
IP = "/usr/sbin:/sbin:/usr/bin:/bin"


def _namespace(app: App, name: str) -> str:
    """The namespace's name in /run/netns. Raises UsageError, HostError, ResourceError."""
    service = service_argument(app, name)
    require_root()
    found = app.lab.namespace(app.stack.namespace_of(service))
    if not linux.is_namespace(linux.NETNS_DIR / found):
        raise ResourceError(f"netns:{found}", "enter", "it does not exist; is the lab up?")
    return found


def _become(words: list[str], environment: dict[str, str]) -> None:
    program = shutil.which(words[0], path=IP)
    if program is None:
        raise HostError(f"{words[0]} is not installed", mend="apt-get install iproute2")
    os.execve(program, words, environment)


def _require(program: str) -> None:
    """Ends this process where `ip netns exec` could only fail, with 255 for every reason."""
    if shutil.which(program):
        return
    if shutil.which(program, mode=os.F_OK) or ("/" in program and Path(program).exists()):
        click.echo(clean_lines(f"orchestrator: cannot run {program}: not executable"), err=True)
        sys.exit(NOT_RUN)
    click.echo(clean_lines(f"orchestrator: cannot run {program}: no such command"), err=True)
    sys.exit(NOT_FOUND)


# What follows NODE is COMMAND's, its options too.
@click.command("exec", context_settings={"allow_interspersed_args": False})
@target_options
@click.argument("node", type=Named(SERVICES))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(target: Target, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in NODE's network namespace, with its /etc/hosts. Options come before NODE.

    Ends as COMMAND does; with 127 where there is no such command, with 126 where it cannot be run.
    """
    command = command[1:] if command[0] == "--" else command
    if not command:
        raise click.UsageError("Missing argument 'COMMAND...'.")
    name = _namespace(target.open(), node)
    _require(command[0])
    _become(["ip", "netns", "exec", name, *command], dict(os.environ))


@click.command()
@target_options
@click.argument("node", type=Named(SERVICES))
def shell(target: Target, node: str) -> None:
    """A shell in NODE's network namespace; its prompt says where you are."""
    app = target.open()
    name = _namespace(app, node)
    environment = {**os.environ, "PS1": f"[{name}] \\w# ", "ORCHESTRATOR_SHELL": name}
    command = os.environ.get("SHELL", "/bin/sh")
    words = ["ip", "netns", "exec", name, command]
    if command.endswith("bash"):
        words.append("--norc")  # or it would set a prompt of its own
    _become(words, environment)
