"""How a command ends: what a person is told of an error, and the exit code.

0 done, 1 failed, 2 wrong use, 3 host cannot, 4 busy, 130 interrupted, 70 a bug.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from orchestrator.commands.telling import say
from orchestrator.errors import BUG, DISK_ERRORS, INTERRUPTED, OrchestratorError
from orchestrator.hints import hinted
from orchestrator.terminal import clean_lines

ROOM = "make room; `df` and `df -i` show where there is none"
MENDS = {  # of the disk's errors; of all others: room
    errno.EROFS: "mount it for writing, or name another place: --state-dir, --run-dir, --cache-dir",
    errno.EIO: "see what `dmesg` says of that disk",
}


def code_of(command: Callable[[], int]) -> int:
    """Runs it; its exit code, however it ends. Raises SystemExit where that is its way."""
    try:
        return command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OrchestratorError as error:
        _trace()
        say(clean_lines(f"orchestrator: {hinted(str(error))}"), err=True)
        return error.exit_code
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            return _bug(error)
        where = f": {error.filename}" if error.filename else ""
        say(f"orchestrator: the disk refuses: {error.strerror}{where}", err=True)
        say(f"  mend: {MENDS.get(error.errno, ROOM)}", err=True)
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort
        return _bug(error)


def _bug(error: Exception) -> int:
    _trace()
    say(clean_lines(f"orchestrator: {type(error).__name__}: {error}"), err=True)
    say("  this is a bug; --debug shows where", err=True)
    return BUG


def _trace() -> None:
    """Of the exception that is handled, where --debug asks for it."""
    if os.environ.get("ORCHESTRATOR_DEBUG"):
        import traceback  # few need it

        traceback.print_exc()
