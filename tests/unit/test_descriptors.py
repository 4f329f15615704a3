"""A command whose standard descriptors are closed does its work, and takes none of them for
something else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CLOSED = {"input": "<&-", "output": ">&-", "error": "2>&-", "all": "<&- >&- 2>&-"}
# What a program that is started with our descriptors has as its own, and where a file goes.
LOOK = """
import json, os, subprocess, sys
from orchestrator import descriptors
descriptors.fill()
print("nobody reads it", file=sys.stdout, flush=True)
print("nor this", file=sys.stderr, flush=True)
sys.stdin.read()
with open(sys.argv[1], "w") as file:
    child = [sys.executable, "-c", "import os; [os.fstat(each) for each in (0, 1, 2)]"]
    code = subprocess.run(child).returncode
    json.dump([file.fileno(), code], file)
"""


def shell(redirection: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    line = f'exec "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", line, "sh", *map(str, words)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("closed", CLOSED)
def test_command_ends_well_with_descriptors_closed(closed: str) -> None:
    done = shell(CLOSED[closed], sys.executable, "-m", "orchestrator", "graph", "--services")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("postgres-db" in done.stdout) == (closed in ("input", "error"))


@pytest.mark.parametrize("closed", CLOSED)
def test_no_file_takes_their_place_and_programs_inherit_them(tmp_path: Path, closed: str) -> None:
    done = shell(CLOSED[closed], sys.executable, "-c", LOOK, tmp_path / "found")
    assert done.returncode == 0, done.stderr
    number, code = json.loads((tmp_path / "found").read_text())
    assert number > 2
    assert code == 0


def test_reader_that_has_gone_is_no_error_of_ours() -> None:
    words = [sys.executable, "-m", "orchestrator", "schema"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
