"""argv → one command → exit code. Commands are imported when they are called."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from orchestrator.errors import BUG, DISK_ERRORS, INTERRUPTED, OrchestratorError
from orchestrator.hints import hinted
from orchestrator.terminal import clean_lines

PROGRAM = "orchestrator"  # also when run by `python -m`, so that completion always works
COMPLETE_VARIABLE = "_ORCHESTRATOR_COMPLETE"  # by which the shell's script asks for candidates

# name → (module of orchestrator.commands, what it does in one line)
COMMANDS = {
    "up": ("run", "Bring up everything that is missing."),
    "down": ("run", "Take everything away and leave the host as it was."),
    "replay": ("replay", "Rebuild one layer or node, and prove that nothing else was touched."),
    "supervise": ("supervise", "Watch the lab and mend what breaks; `up` starts this by itself."),
    "status": ("status", "What is there now: state, pid, address, uptime, last error."),
    "plan": ("look", "What `up` would do, and why."),
    "path": ("path", "The request path now: rates, times and errors, hop by hop."),
    "trace": ("path", "One request as a waterfall."),
    "events": ("look", "The journal: what happened, or what happens."),
    "analyze": ("analyze", "What a run's time went to: blame, critical chain, plot, what-if."),
    "logs": ("look", "What the services wrote."),
    "exec": ("enter", "Run a command in a service's network namespace."),
    "shell": ("enter", "A shell in a service's network namespace."),
    "secrets": ("secrets", "List secrets, or rotate them without losing a request."),
    "validate": ("check", "Check a stack file."),
    "schema": ("check", "Print the stack file's JSON Schema, for editors."),
    "prepare": ("prepare", "Make what every new lab needs, once for this machine."),
    "doctor": ("check", "Check this host: kernel, tools, ports, overlaps, each with its mend."),
    "audit": ("audit", "Check live processes and servers for rights that they must not have."),
    "verify": ("check", "Prove the platform: namespaces, bridge, pings, NAT, ports, flows."),
    "why": ("why", "Why a node does not answer: the first broken layer, with the evidence."),
    "graph": ("draw", "The dependency graph."),
    "topology": ("draw", "The network as the kernel has it now."),
    "rules": ("draw", "Our iptables rules with counters and explanations."),
    "policy": ("draw", "Who may connect to whom, with the rule and its counter behind each."),
    "completion": ("check", "Print the shell's completion script."),
}


def is_debugged() -> bool:
    return bool(os.environ.get("ORCHESTRATOR_DEBUG"))


def _debug(_: click.Context, __: click.Parameter, value: bool) -> None:
    if value:
        os.environ["ORCHESTRATOR_DEBUG"] = "1"  # for the supervisor that is started, too


# Everywhere, so that it may also stand at the end of a command line.
DEBUG = click.Option(
    ["--debug"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_debug,
    help="Show the traceback of an error.",
)


class Commands(click.Group):
    """Knows every command's name; loads its module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"orchestrator.commands.{COMMANDS[cmd_name][0]}")
        found = getattr(module, cmd_name if cmd_name != "exec" else "exec_")
        assert isinstance(found, click.Command)
        for each in found.commands.values() if isinstance(found, click.Group) else [found]:
            if DEBUG not in each.params:
                each.params.append(DEBUG)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names from the table: importing every command would make the shell wait."""
        found = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="orchestrator")
def cli() -> None:
    """Run a microservice platform on this host from kernel primitives alone."""


cli.params.append(DEBUG)


def main() -> None:
    """Every way out: 0 done, 1 failed, 2 wrong use, 3 host cannot, 4 busy, 130 interrupted."""
    try:
        cli.main(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OrchestratorError as error:
        if is_debugged():
            traceback.print_exc()
        click.echo(clean_lines(f"orchestrator: {hinted(str(error))}"), err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            _is_a_bug(error)
        where = f": {error.filename}" if error.filename else ""
        click.echo(f"orchestrator: the disk refuses: {error.strerror}{where}", err=True)
        click.echo("  mend: make room, or see what `df` and `dmesg` say", err=True)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last resort
        _is_a_bug(error)


def _is_a_bug(error: Exception) -> NoReturn:
    if is_debugged():
        traceback.print_exc()
    click.echo(clean_lines(f"orchestrator: {type(error).__name__}: {error}"), err=True)
    click.echo("  this is a bug; --debug shows where", err=True)
    sys.exit(BUG)
