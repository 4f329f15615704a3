"""What the options that commands share say of themselves."""

from __future__ import annotations

import click
import pytest

from orchestrator.cli import cli
from orchestrator.commandtable import COMMANDS


def told(command: click.Command) -> list[str]:
    """Of --host-netns, of each command below, too."""
    if isinstance(command, click.Group):
        return [text for each in command.commands.values() for text in told(each)]
    options = [each for each in command.params if isinstance(each, click.Option)]
    return [each.help or "" for each in options if each.name == "host_netns"]


@pytest.mark.parametrize("name", COMMANDS)
def test_only_up_says_that_it_makes_the_host(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert {"made if it does not exist" in text for text in told(command)} <= {name == "up"}
