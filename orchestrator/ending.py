"""How a command ends: what a person is told of an error, and the exit code.

0 done, 1 failed, 2 wrong use, 3 host cannot, 4 busy, 130 interrupted, 70 a bug.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from orchestrator.commands.telling import say
from orchestrator.errors import BUG, DISK_ERRORS, INTERRUPTED, HostError, OrchestratorError
from orchestrator.hints import hinted
from orchestrator.terminal import clean_lines

ROOM = "make room; `df` and `df -i` show where there is none"
MENDS = {  # of the disk's errors; of all others: room
    errno.EROFS: "mount it for writing, or name another place: --state-dir, --run-dir, --cache-dir",
    errno.EIO: "see what `dmesg` says of that disk",
}


def code_of(command: Callable[[], int]) -> int:
    """Runs it; its exit code, however it ends. Raises SystemExit where that is its way."""
    out = sys.stdout
    try:
        return command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _left_alone()
    except SystemExit:
        if sys.stdout is not out:  # click's way: it wraps what nobody reads, and exits with 1
            return _left_alone()
        raise
    except OrchestratorError as error:
        return _failed(error)
    except OSError as error:
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            return _failed(_not_root(error))
        if error.errno not in DISK_ERRORS:
            return _bug(error)
        _tell(
            f"orchestrator: the disk refuses: {error.strerror}{_where(error)}",
            f"  mend: {MENDS.get(error.errno, ROOM)}",
        )
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort
        return _bug(error)


def _left_alone() -> int:
    """Whoever read has left: no failure, and nobody is told of the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _failed(error: OrchestratorError) -> int:
    _trace()
    _tell(f"orchestrator: {hinted(str(error))}")
    return error.exit_code


def _not_root(error: OSError) -> HostError:
    """What no command had said of it itself."""
    found = HostError(f"this needs root: {error.strerror}{_where(error)}", mend="run it with sudo")
    found.__cause__ = error
    return found


def _where(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


def _bug(error: Exception) -> int:
    _trace()
    _tell(
        f"orchestrator: {type(error).__name__}: {error}",
        "  this is a bug; --debug shows where",
    )
    return BUG


def _tell(*lines: str) -> None:
    for line in lines:
        say(clean_lines(line), err=True)


def _trace() -> None:
    """Of the exception that is handled, where --debug asks for it."""
    if os.environ.get("ORCHESTRATOR_DEBUG"):
        import traceback  # few need it

        traceback.print_exc()
