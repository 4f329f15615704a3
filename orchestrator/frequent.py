"""The commands that are given again and again, without click: it takes longer to load than the
supervisor to answer, and a twentieth of a start.

Only command lines that are understood to the last word are carried out here, and by the same
functions; all others, also wrong ones, are click's. A test holds both to the same understanding.
The supervisor is asked before those functions are loaded, so that it answers meanwhile. Until
then light, as glance.py is.
"""

from __future__ import annotations

import os
import sys
import time

from orchestrator import glance
from orchestrator.commandtable import COMMANDS, COMPLETE_VARIABLE, PROGRAM, SUMMARY
from orchestrator.front import asking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from orchestrator.commands.target import Target

# option → (parameter, where it is not given, environment variable); as in commands/options.py
OPTIONS = {
    "--stack": ("stack", "", "ORCHESTRATOR_STACK"),
    "--host-netns": ("host_netns", "", "ORCHESTRATOR_HOST_NETNS"),
    "--state-dir": ("state_dir", glance.STATE_ROOT, "ORCHESTRATOR_STATE_DIR"),
    "--run-dir": ("run_dir", glance.RUN_ROOT, "ORCHESTRATOR_RUN_DIR"),
    "--cache-dir": ("cache_dir", glance.CACHE_ROOT, "ORCHESTRATOR_CACHE_DIR"),
}
SHORT = {"-s": "--stack"}
READABLE = ("stack", "state_dir", "run_dir")  # if not, click has something to say
FLAGS = {
    "up": {
        "--no-supervise": "no_supervise",
        "--live": "live",
        "--thaw": "thaw",
        "--json": "as_json",
    },
    "down": {"--volumes": "volumes", "--json": "as_json"},
    "status": {"--json": "as_json", "--all": "everything"},
    "replay": {
        "--dry-run": "dry_run",
        "--no-deps": "no_deps",
        "--cascade": "cascade",
        "--json": "as_json",
    },
}
WORDS = {"up": (), "down": (), "status": (), "replay": ("what",)}  # those that are no options
PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."  # no part of a path
HELP = (["--help"], ["-h"])
HELP_WIDTH = 80  # columns; click breaks more lines where there are fewer
HELP_OPTIONS = {
    "--version": "Show the version and exit.",
    "--debug": "Show the traceback of an error.",
    "-h, --help": "Show this message and exit.",
}


def command(words: Sequence[str]) -> Callable[[], int] | None:
    """What does what these words ask for, and gives its exit code; None if that is click's.

    By then the supervisor has been asked, which answers while the caller loads.
    """
    if COMPLETE_VARIABLE in os.environ:
        return None
    if list(words) in HELP and _width() >= HELP_WIDTH:
        return _help
    if (given := understood(words)) is None:
        return None
    own, target = given
    return WORK[words[0]](own, target)


def understood(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The command's own parameters and those that mean a target; None where not every word is
    certain."""
    name, *rest = words or ("",)
    if name not in FLAGS:
        return None
    own: dict[str, Any] = dict.fromkeys(FLAGS[name].values(), False)
    own |= dict.fromkeys(WORDS[name], "")
    target = {key: os.environ.get(env) or default for key, default, env in OPTIONS.values()}
    left, free, private = iter(rest), list(WORDS[name]), ""
    for word in left:
        option = SHORT.get(word, word)
        if option in FLAGS[name]:
            own[FLAGS[name][option]] = True
        elif option in OPTIONS:
            value = next(left, "")
            if not value or value.startswith("-"):
                return None
            target[OPTIONS[option][0]] = value
        elif option == "--private":
            private = "lab"
        elif free and word and not word.startswith("-"):
            own[free.pop(0)] = word
        else:
            return None
    target["host_netns"] = target["host_netns"] or private
    is_plain = not target["host_netns"].strip(PLAIN)
    return (
        (own, target) if is_plain and all(_is_readable(target[key]) for key in READABLE) else None
    )


def _is_readable(path: str) -> bool:
    """Or not there, which click leaves to others."""
    return os.access(path, os.R_OK) or not os.path.exists(path)


def _up(own: dict[str, Any], target: dict[str, str]) -> Callable[[], int]:
    def work() -> int:
        from orchestrator.commands.running import bring_up

        bring_up(_target(target), **own)
        return 0

    return work


def _down(own: dict[str, Any], target: dict[str, str]) -> Callable[[], int]:
    def work() -> int:
        from orchestrator.commands.running import take_down

        take_down(_target(target), **own)
        return 0

    return work


def _status(own: dict[str, Any], target: dict[str, str]) -> Callable[[], int]:
    asked = asking.status(*known) if (known := _known(target)) else None

    def work() -> int:
        from orchestrator.commands.statustable import show

        show(_target(target), **own, ask=lambda: asked)
        return 0

    return work


def _replay(own: dict[str, Any], target: dict[str, str]) -> Callable[[], int]:
    begun_s = time.monotonic()
    wishes = {key: own[key] for key in ("what", "dry_run", "no_deps", "cascade")}
    asked = asking.replay(*known, **wishes) if (known := _known(target)) else None

    def work() -> int:
        from orchestrator.commands.replaying import carry_out

        carry_out(_target(target), **own, begun_s=begun_s, ask=lambda: asked)
        return 0

    return work


WORK = {"up": _up, "down": _down, "status": _status, "replay": _replay}


def _known(target: dict[str, str]) -> tuple[str, str] | None:
    """The lab's run directory and the stack's digest; None if a glance does not tell."""
    try:
        found = glance.known(glance.stack_file(target["stack"]))
    except OSError:
        return None
    if not found:
        return None
    name, digest = found
    return os.path.join(target["run_dir"], glance.lab_of(name, target["host_netns"])), digest


def _target(given: dict[str, str]) -> Target:
    from pathlib import Path

    from orchestrator.commands.target import Target

    stack, host = Path(given["stack"]) if given["stack"] else None, given["host_netns"]
    places = {key: Path(given[key]) for key in ("state_dir", "run_dir", "cache_dir")}
    return Target.of(stack=stack, host_netns=host or None, private=False, **places)


def _help() -> int:
    sys.stdout.write(usage())
    return 0


def usage() -> str:
    """What click says to --help, from the same table."""
    import textwrap

    lines = [f"Usage: {PROGRAM} [OPTIONS] COMMAND [ARGS]...", "", f"  {SUMMARY}"]
    commands = {name: text for name, (_, text) in COMMANDS.items()}
    for title, entries in (("Options", HELP_OPTIONS), ("Commands", commands)):
        wide = max(map(len, entries))
        lines += ["", f"{title}:"]
        for key, text in entries.items():
            first, *more = textwrap.wrap(text, HELP_WIDTH - wide - 6)
            lines += [f"  {key:{wide}}  {first}", *(" " * (wide + 4) + each for each in more)]
    return "\n".join([*lines, ""])


def _width() -> int:
    """As shutil.get_terminal_size has it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(1).columns or HELP_WIDTH
    except OSError:
        return HELP_WIDTH
