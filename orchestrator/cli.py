"""argv → one command → exit code, by click. Commands are imported when they are called."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

import click
from click.shell_completion import CompletionItem

from orchestrator import interrupts
from orchestrator.commandtable import COMMANDS, COMPLETE_VARIABLE, PROGRAM, SUMMARY
from orchestrator.ending import code_of
from orchestrator.errors import INTERRUPTED


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
        interrupts.throw()  # many a command has something to take back
        found = getattr(module, cmd_name if cmd_name != "exec" else "exec_")
        assert isinstance(found, click.Command)
        for each in found.commands.values() if isinstance(found, click.Group) else [found]:
            if DEBUG not in each.params:
                each.params.append(DEBUG)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """`help COMMAND` is `COMMAND --help`. Raises click's errors, with what may have been
        meant."""
        if args[0] == "help":
            args = [*args[1:], "--help"]
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

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


@click.group(cls=Commands, help=SUMMARY, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="orchestrator")
def cli() -> None:
    pass


cli.params.append(DEBUG)


def main() -> None:
    """The command that argv asks for; see ending.py for the exit codes."""
    if code := code_of(_by_click):
        sys.exit(code)


def _by_click() -> int:
    try:
        cli.main(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.NoSuchOption as error:
        with contextlib.suppress(BrokenPipeError):  # the exit code says it all the same
            _show(error)
        return 2
    except click.ClickException as error:
        with contextlib.suppress(BrokenPipeError):
            error.show()
        return 2
    return 0


def _show(error: click.NoSuchOption) -> None:
    """What click says; for an option that stands before its command, where it belongs."""
    ctx, name = error.ctx, error.option_name
    if ctx is not None and isinstance(ctx.command, click.Group):
        known = ctx.command.list_commands(ctx)
        word = next((word for word in sys.argv[1:] if word in known), "")
        command = ctx.command.get_command(ctx, word)
        options = command.params if command else []
        if found := next((each for each in options if name in each.opts), None):
            value = "" if getattr(found, "is_flag", False) else f" {found.make_metavar(ctx)}"
            line = f"{ctx.command_path} {word} {name}{value}"
            error = click.NoSuchOption(name, f"{name} belongs after the command: {line}", ctx=ctx)
    error.show()
