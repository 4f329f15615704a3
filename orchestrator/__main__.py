"""`orchestrator`, and `python -m orchestrator`."""

from __future__ import annotations

import os

from orchestrator import interrupts

interrupts.end()

import gc  # noqa: E402 - order matters: all else after Ctrl-C has its meaning
import sys  # noqa: E402

from orchestrator import descriptors  # noqa: E402

TYPE_CHECKING = False  # typing takes longer to load than `status` to ask
if TYPE_CHECKING:
    from typing import NoReturn

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
        # Order matters: what this opens must not become a standard descriptor.
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
        code = interrupts.INTERRUPTED
    interrupts.end()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass  # whoever read it has left, which is no failure
    except OSError:
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    run()
