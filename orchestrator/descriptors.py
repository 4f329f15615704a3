"""Standard descriptors that whoever started us has closed (`>&-`)."""

from __future__ import annotations

import os
import sys

STANDARD = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def fill() -> None:
    """Opens /dev/null in the place of each of 0, 1, 2 that is closed, for programs that we start
    too. Else the next file or socket becomes standard output. Raises OSError."""
    for number, (name, mode) in enumerate(STANDARD):
        try:
            os.fstat(number)
        except OSError:
            # The lowest that is free is taken: those below it are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:  # what the interpreter makes of a closed one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
