"""Colours are for people at a terminal who want them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

STACK = """
name: colours
networks: {br-colours: {address: 10.9.0.1/24}}
services:
  web: {networks: {br-colours: 10.9.0.10}, command: [sleep, infinity]}
"""


def shown(directory: Path, *words: str, **variables: str) -> str:
    """What a terminal of 100 columns is sent."""
    stack = directory / "stack.yaml"
    stack.write_text(STACK)
    options = ["--stack", stack, "--state-dir", directory / "state", "--run-dir", directory / "run"]
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "orchestrator", *words, *options],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **variables},
            timeout=60,
            check=False,
        )
        return os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_no_color_is_heard(command: str, tmp_path: Path) -> None:
    """See https://no-color.org: an empty variable is none."""
    assert "\x1b[" in shown(tmp_path, command, NO_COLOR="")
    assert "\x1b[" not in shown(tmp_path, command, NO_COLOR="1")
