"""Loading without the garbage collector, as the first import of a program.

What is imported stays, so going through it again and again is in vain: an eighth of the start.
"""

from __future__ import annotations

import gc

gc.disable()


def loaded() -> None:
    """All is imported: what came with it is never looked at again, what comes from now on is."""
    gc.freeze()
    gc.enable()
