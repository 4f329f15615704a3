"""Load on the shop (load.py) for the length of a block."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from books import restock
from rig import ROOT, World


class Load:
    """Clients on the host that go on until `end`."""

    def __init__(self, shop: World) -> None:
        words = ["ip", "netns", "exec", shop.host, sys.executable, str(ROOT / "tests/load.py"), "4"]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def end(self) -> dict[str, Any]:
        out, _ = self._process.communicate(timeout=60)
        found: dict[str, Any] = json.loads(out)
        return found


@contextlib.contextmanager
def load(shop: World) -> Iterator[Load]:
    restock(shop)
    running = Load(shop)
    try:
        yield running
    finally:
        with contextlib.suppress(ValueError):
            running.end()
