"""The options that every command shares, as click has them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orchestrator.commands.target import EMPTY_NAME, Target
from orchestrator.errors import UsageError
from orchestrator.lab import CACHE_ROOT, RUN_ROOT, STATE_ROOT

MAKES_HOST = "up"  # the one command that does


class FilePath(click.Path):
    """A path; a script's empty variable is none, and must not mean the working directory."""

    def __init__(self, *, readable: bool = True) -> None:
        super().__init__(readable=readable, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("an empty name is no path", param, ctx)
        return super().convert(value, param, ctx)


def name_or_all(_: click.Context, __: click.Parameter, value: str | None) -> str:
    """For an argument that may be left out: a script's empty variable does not leave it out."""
    if value == "":
        raise UsageError(EMPTY_NAME)
    return value or ""


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --stack, --host-netns, --private and the directories' options; gives a Target."""
    made = "; made if it does not exist" if command.__name__ == MAKES_HOST else ""

    @click.option(
        "--stack",
        "-s",
        type=FilePath(),
        envvar="ORCHESTRATOR_STACK",
        show_envvar=True,
        help="Stack file. Default: services/stack.yaml.",
    )
    @click.option(
        "--host-netns",
        default=None,
        metavar="NAME",
        envvar="ORCHESTRATOR_HOST_NETNS",
        show_envvar=True,
        help=f"Network namespace to use as the lab's host{made}.",
    )
    @click.option("--private", is_flag=True, help="Short for --host-netns lab.")
    @click.option(
        "--state-dir",
        default=STATE_ROOT,
        type=FilePath(),
        envvar="ORCHESTRATOR_STATE_DIR",
        show_envvar=True,
        help=f"Data, secrets, logs, journal. Default: {STATE_ROOT}.",
    )
    @click.option(
        "--run-dir",
        default=RUN_ROOT,
        type=FilePath(),
        envvar="ORCHESTRATOR_RUN_DIR",
        show_envvar=True,
        help=f"Files of one boot. Default: {RUN_ROOT}.",
    )
    @click.option(
        "--cache-dir",
        default=CACHE_ROOT,
        type=FilePath(readable=False),  # it is root's, and few commands need it
        envvar="ORCHESTRATOR_CACHE_DIR",
        show_envvar=True,
        help=f"What `prepare` made, for every lab. Default: {CACHE_ROOT}.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        stack: Path | None,
        host_netns: str | None,
        private: bool,
        state_dir: Path,
        run_dir: Path,
        cache_dir: Path,
        **kwargs: Any,
    ) -> Any:
        target = Target.of(
            stack=stack,
            host_netns=host_netns,
            private=private,
            state_dir=state_dir,
            run_dir=run_dir,
            cache_dir=cache_dir,
        )
        return command(target, *args, **kwargs)

    return wrapped
