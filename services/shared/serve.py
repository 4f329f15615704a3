"""Serves a WSGI application by Granian: `serve.py MODULE`, whose `app` it is.

As Granian's own command does it, which takes 30 ms of processor time more to load.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from functools import partial
from typing import Any

import shared.loading  # noqa: F401 - before everything else

# isort: split
from granian.constants import Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server import Server

from shared.settings import setting

THREADS = 4  # each waits for its database
BACKLOG = 1024


def load(module: str) -> Any:
    """The application, in the worker that serves it. Granian has forked it with its own handler of
    SIGTERM, which there only sets a flag that nobody reads before all is loaded."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return importlib.import_module(module).app


class _Server(Server):
    def signal_handler_interrupt(self, *_: object) -> None:
        """By a thread: the one that the signal interrupts may be about to wait for the event, and
        hold its lock."""
        self.interrupt_signal = True
        threading.Thread(target=self.main_loop_interrupt.set).start()


if __name__ == "__main__":
    _Server(
        sys.argv[1],
        address=setting("HOST", "0.0.0.0"),
        port=int(setting("PORT", "5000")),
        interface=Interfaces.WSGI,
        blocking_threads=THREADS,
        backlog=BACKLOG,
        http1_settings=HTTP1Settings(),
        http2_settings=HTTP2Settings(),
        websockets=False,
        log_level=LogLevels.warning,
    ).serve(target_loader=partial(load, sys.argv[1]), wrap_loader=False)
