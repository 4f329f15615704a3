"""The first import of a program: how it loads the others.

Without the garbage collector, since what is imported stays: going through it again and again is
an eighth of the start. And ready to end: granian forks its workers with its own handler of
SIGTERM, which there only sets a flag that nobody reads before the program has loaded.
"""

from __future__ import annotations

import gc
import os
import signal

gc.disable()
signal.signal(signal.SIGTERM, signal.SIG_DFL)

# aiohttp loads the certificates of all authorities when it is imported: 100 ms of processor time.
# The services ask nobody by TLS.
os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull


def loaded() -> None:
    """All is imported: what came with it is never looked at again, what comes from now on is."""
    gc.freeze()
    gc.enable()
