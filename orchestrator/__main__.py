"""`orchestrator`, and `python -m orchestrator`."""

from __future__ import annotations

import os
import sys

from orchestrator import descriptors

TYPE_CHECKING = False  # typing takes longer to load than `status` to ask
if TYPE_CHECKING:
    from typing import NoReturn

INTERRUPTED = 130  # as in errors, whose loading takes long enough to be interrupted itself


def run() -> NoReturn:
    """One command. What the interpreter would take apart at its end for 30 ms, the kernel takes
    at once."""
    descriptors.fill()
    code = 0
    try:
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
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever read it has gone
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    run()
