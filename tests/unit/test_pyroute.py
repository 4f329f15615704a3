"""Of pyroute2 only what is used is loaded, and all of it is there when it is asked for."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    words = [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_message_classes_do_not_load_the_whole_package() -> None:
    code = "import sys, orchestrator.kernel.netlink; print('pyroute2.ndb.main' in sys.modules)"
    assert run(code) == "False\n"


def test_the_rest_is_loaded_when_it_is_asked_for() -> None:
    code = """
import orchestrator.kernel.netlink, pyroute2
from pyroute2.nftables.main import NFTables
print(pyroute2.IPRoute.__name__, NFTables.__name__)
"""
    assert run(code) == "IPRoute NFTables\n"
