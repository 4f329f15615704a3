"""What a program's start need not load: everybody waits for it. The first import of a program."""

from __future__ import annotations

import gc
import importlib
import os
import threading
from collections.abc import Callable

LATER_S = 1.0

# What is imported stays, so going through it again and again is in vain: an eighth of the start.
gc.disable()

# aiohttp loads the certificates of all authorities when it is imported: 100 ms of processor time.
# The services ask nobody by TLS.
os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull


def loaded() -> None:
    """All is imported: what came with it is never looked at again, what comes from now on is."""
    gc.freeze()
    gc.enable()


def later(*modules: str, then: Callable[[], object] | None = None) -> None:
    """Imports what no request has needed by then: nobody waits for it any more."""

    def load() -> None:
        for module in modules:
            importlib.import_module(module)
        if then is not None:
            then()

    timer = threading.Timer(LATER_S, load)
    timer.daemon = True
    timer.start()
