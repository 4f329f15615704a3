"""How commands end: what a person is told, and the exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ending import code_of


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EROFS, "mount it for writing"),
        (errno.EIO, "see what `dmesg` says"),
    ],
)
def test_mend_fits_what_the_disk_says(
    number: int, mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise OSError(number, os.strerror(number), "/there")

    assert code_of(work) == 1
    told = capsys.readouterr().err
    assert f"{os.strerror(number)}: /there" in told
    assert f"mend: {mend}" in told


@pytest.mark.parametrize(
    "words", [["schema"], ["--help"], ["validate"], ["graph"], ["status", "--json"]]
)
def test_reader_that_has_left_is_no_failure(words: list[str], tmp_path: Path) -> None:
    places = ["--state-dir", str(tmp_path), "--run-dir", str(tmp_path), "--host-netns", "no-such"]
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "orchestrator", *words]
    command += [] if words[0] in ("schema", "--help") else places
    buffered = {key: text for key, text in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, env=buffered, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


REPORT = """
import sys
from orchestrator.commands.telling import say
from orchestrator.ending import code_of
def interrupted():
    say("interrupted", err=True)
    sys.exit(130)
code_of(interrupted)
"""


def test_failure_is_one_whoever_has_left() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "orchestrator", "validate", "/no-such-file"]
    done = subprocess.run(command, stderr=write, timeout=60, check=False)
    os.close(write)
    assert done.returncode == 2


def test_report_that_nobody_reads_changes_no_exit_code() -> None:
    """As `up 2>&1 | tee log` and Ctrl-C, which ends tee, too."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", REPORT], stderr=write, timeout=60, check=False)
    os.close(write)
    assert done.returncode == 130


def test_own_exit_code_stays() -> None:
    with pytest.raises(SystemExit, match="5"):
        code_of(lambda: sys.exit(5))


@pytest.mark.parametrize(("user", "code", "told"), [(65534, 3, "run it with sudo"), (0, 70, "bug")])
def test_who_is_not_root_is_told_so(
    user: int,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/there")

    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert code_of(work) == code
    said = capsys.readouterr().err
    assert "Permission denied" in said
    assert "/there" in said
    assert told in said
