"""Commands that go on until Ctrl-C end with 130 and no traceback; those that have nothing to show
say so."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import SHOP

from orchestrator import errors, interrupts
from orchestrator.events import Noticed, Record, encode

ANSWER = b'HTTP/1.0 200 OK\r\n\r\n{"request": null}'


def words(tmp_path: Path, *command: str) -> list[str]:
    places = ["--state-dir", str(tmp_path / "state"), "--run-dir", str(tmp_path / "run")]
    return [sys.executable, "-m", "orchestrator", *command, *places, "--stack", str(SHOP)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    """One line in the journal, one in a log, and who answers what `path` asks."""
    state, run_dir = tmp_path / "state" / "shop", tmp_path / "run" / "shop"
    (state / "logs").mkdir(parents=True)
    run_dir.mkdir(parents=True)
    record = Record(seq=0, run="r", wall_ns=1, mono_ns=1, event=Noticed("service:a", "one line"))
    (state / "journal.jsonl").write_text(encode(record) + "\n")
    (state / "logs" / "nginx-lb.log").write_text("one line\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "control.sock"))
        listener.listen()
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        yield tmp_path
        listener.shutdown(socket.SHUT_RDWR)


def answer(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(ANSWER)


@pytest.mark.parametrize(
    "command",
    [("events", "--follow"), ("logs", "-f"), ("path", "--watch"), ("path", "--watch", "--json")],
    ids=" ".join,
)
def test_interrupted_is_130_and_says_nothing(lab: Path, command: tuple[str, ...]) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(words(lab, *command), stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()  # it is at it
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (130, "")


def test_interrupt_while_loading_is_the_same() -> None:
    assert interrupts.INTERRUPTED == errors.INTERRUPTED


@pytest.mark.parametrize(
    ("command", "says"),
    [("events", "there is no journal"), ("logs", "nothing was logged yet")],
)
def test_lab_that_never_was_is_told_and_no_error(tmp_path: Path, command: str, says: str) -> None:
    done = subprocess.run(
        words(tmp_path, command), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert says in done.stderr
    assert str(tmp_path / "state" / "shop") in done.stderr
    assert f"orchestrator up --state-dir {tmp_path / 'state'}" in done.stderr


@pytest.mark.parametrize("command", ["events", "logs"])
def test_lab_that_was_has_nothing_told_about_it(lab: Path, command: str) -> None:
    done = subprocess.run(
        words(lab, command), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "one line" in done.stdout
