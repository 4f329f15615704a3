"""Network namespaces made ahead of their use: the kernel's half millisecond for each passes in a
thread, while the loop is at work on the rest of a network.

One that has no name yet is nothing but a descriptor: it ends with whoever holds that, a kill
included.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from threading import Thread

from orchestrator import linux

AHEAD = 32  # so many wait to be taken at most: each is an open file
PATIENCE_S = 0.01


class Spare:
    """Hands out what a thread has made; nothing where nobody makes any."""

    def __init__(self) -> None:
        self._ready: Queue[int] = Queue(AHEAD)
        self._left: Iterator[int] = iter(())  # one for each that somebody has yet to make

    @contextmanager
    def made(self, number: int) -> Iterator[None]:
        """So many will be taken within the block. What is left over at its end is gone."""
        self._left = iter(range(number))
        maker = Thread(target=self._make, name="namespaces", daemon=True)
        with suppress(RuntimeError):  # no thread to be had: whoever wants one makes it
            maker.start()
        try:
            yield
        finally:
            for _ in self._left:
                pass
            while maker.is_alive() or not self._ready.empty():
                with suppress(Empty):
                    os.close(self._ready.get(timeout=PATIENCE_S))

    def take(self) -> int | None:
        """A descriptor of a fresh namespace, the caller's to close; None: make one."""
        with suppress(Empty):
            return self._ready.get_nowait()
        next(self._left, None)
        return None

    def _make(self) -> None:
        left = self._left
        with suppress(OSError):  # whoever makes one then hears of it
            home = linux.own_namespace()
            try:
                for _ in left:
                    linux.unshare_net()
                    self._ready.put(linux.own_namespace())
                    linux.setns(home)  # a new one may inherit settings of where it is made
            finally:
                os.close(home)
