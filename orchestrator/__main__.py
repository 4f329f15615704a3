"""`orchestrator`, and `python -m orchestrator`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from orchestrator.cli import main


def run() -> NoReturn:
    """One command. What the interpreter would take apart at its end for 30 ms, the kernel takes
    at once."""
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever read it has gone
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    run()
