"""Serves a WSGI application by Granian: `serve.py MODULE`, whose `app` it is.

As Granian's own command does it, which takes 30 ms of processor time more to load.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial
from typing import Any

import shared.loading  # noqa: F401 - before everything else

# isort: split
from granian.constants import Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server import MPServer

from shared.settings import setting

THREADS = 4  # each waits for its database
BACKLOG = 1024


class _Server(MPServer):
    """Granian's one worker is this process: to fork it would take 25 ms of processor time more,
    and nobody need watch it here, since we are watched ourselves."""

    def signal_handler_interrupt(self, *_: object) -> None:
        """Until all is loaded; then the worker takes signals itself."""
        os._exit(0)

    def _spawn_workers(self, *what: Any) -> None:
        """Returns when the worker was told to end and has answered what it had begun."""
        self._spawn_worker(0, *what).inner.run()
        os._exit(0)  # as a forked one does: nothing is taken down under its threads


def load(module: str) -> Any:
    return importlib.import_module(module).app


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
