"""What Ctrl-C means: the end of the process, or an exception.

Light, as glance.py is.
"""

from __future__ import annotations

# The module without its enumerations: so early it is there already, and takes no time.
import _signal  # type: ignore[import-not-found]
import os

INTERRUPTED = 130  # as in errors, whose loading takes long enough to be interrupted itself


def _end(*_: object) -> None:
    os._exit(INTERRUPTED)


def end() -> None:
    """Ctrl-C ends the process at once, unless whoever started it has it ignored.

    For as long as nothing is done yet that anybody would have to take back. An exception would
    find nobody to catch it, or worse, the wrong one: Python prints what comes up in its own
    callbacks, as in those of an import, and goes on; and a library takes it for its own failure.
    What comes while Python itself starts is Python's, traceback and all.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _end)


def throw() -> None:
    """Ctrl-C is KeyboardInterrupt again."""
    if _signal.getsignal(_signal.SIGINT) is _end:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
