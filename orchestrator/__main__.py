"""`orchestrator`, and `python -m orchestrator`."""

from __future__ import annotations

# The module without its enumerations: so early it is there already, and takes no time.
import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False  # typing takes longer to load than `status` to ask
if TYPE_CHECKING:
    from typing import NoReturn

INTERRUPTED = 130  # as in errors, whose loading takes long enough to be interrupted itself


def _end(*_: object) -> None:
    os._exit(INTERRUPTED)


def _interrupts_end() -> None:
    """Ctrl-C ends the process at once, unless whoever started it has it ignored. An exception
    would find nobody to catch it: as long as this loads, and after the command's end. What comes
    while Python itself starts is Python's, traceback and all."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _end)


def _interrupts_raise() -> None:
    """Ctrl-C is KeyboardInterrupt again."""
    if _signal.getsignal(_signal.SIGINT) is _end:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


_interrupts_end()

import gc  # noqa: E402 - order matters: all else after Ctrl-C has its meaning
import sys  # noqa: E402

from orchestrator import descriptors  # noqa: E402

# Most of what a command makes until it ends is what it loads, and that stays: to look through it
# for garbage again and again takes a thirtieth of `up`.
COLLECT_EVERY = 50_000  # new objects; Python's own: 700
gc.set_threshold(COLLECT_EVERY)


def run() -> NoReturn:
    """One command. What the interpreter would take apart at its end for 30 ms, the kernel takes
    at once."""
    descriptors.fill()
    code = 0
    try:
        _interrupts_raise()
        # Order matters: what this opens must not become a standard descriptor, and an interrupt
        # while it loads is an interrupt.
        from orchestrator import frequent

        if work := frequent.command(sys.argv[1:]):
            from orchestrator.ending import code_of

            code = code_of(work)
        else:
            from orchestrator.cli import main

            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        code = INTERRUPTED
    _interrupts_end()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever read it has gone
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    run()
