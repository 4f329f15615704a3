"""Ctrl-C in the first milliseconds of a command: 130, and not a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import frequent

# The named module is interrupted as it is looked for, and where Python itself has called: there
# it prints an exception, and goes on.
CODE = """
import os, runpy, signal, sys
wanted = sys.argv[1]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            Called()
class Called:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
%s
sys.argv[1:] = sys.argv[2:]
runpy.run_module("orchestrator", run_name="__main__", alter_sys=True)
"""


def interrupted(module: str, *words: str, first: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE % first, module, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(frequent.__file__).parents[1],
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("orchestrator.descriptors", ["--help"]),
        ("orchestrator.frequent", ["--help"]),
        ("orchestrator.ending", ["--help"]),
        ("orchestrator.commands.statustable", ["status"]),
        ("orchestrator.commands.replaying", ["replay", "gateway", "--run-dir", "/nowhere"]),
        ("orchestrator.commands.running", ["up", "--stack", "/nowhere.yaml"]),
        ("orchestrator.commands.target", ["down", "--stack", "/nowhere.yaml"]),
        ("orchestrator.cli", ["plan"]),
        ("orchestrator.commands.look", ["plan"]),
    ],
)
def test_interrupt_while_a_command_loads_is_one(module: str, words: list[str]) -> None:
    done = interrupted(module, *words)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


def test_ignored_interrupt_stays_ignored() -> None:
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    done = interrupted("orchestrator.descriptors", "--help", first=ignored)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
