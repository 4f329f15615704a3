"""A service that is told to end, or cannot be loaded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig import ROOT

SLOW = """\
import os, time
os.write(1, b"it loads\\n")
time.sleep(600)
"""

ANSWERS = """\
import os, time
def app(environ, start_response):
    os.write(1, b"it answers\\n")
    time.sleep(0.5)
    start_response("200 OK", [])
    return [b"whole"]
"""


@contextmanager
def started(tmp_path: Path, text: str, port: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Serves the module of that text."""
    (tmp_path / "served.py").write_text(text)
    places = os.pathsep.join((str(ROOT / "services"), str(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, "-P", ROOT / "services/shared/serve.py", "served"],
        env={**os.environ, "PYTHONPATH": places, "HOST": "127.0.0.1", "PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def connected(port: int) -> socket.socket:
    """A connection to the service, once it listens."""
    until = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_service_told_to_end_while_it_loads_ends(tmp_path: Path) -> None:
    with started(tmp_path, SLOW) as process:
        assert process.stdout is not None
        assert "it loads\n" in process.stdout
        process.terminate()
        assert process.wait(120) == 0  # a busy machine is waited for; the program would sleep on


def test_service_told_to_end_answers_what_it_has_begun(tmp_path: Path) -> None:
    with started(tmp_path, ANSWERS, port=(port := free_port())) as process:
        with connected(port) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert process.stdout is not None
            assert "it answers\n" in process.stdout
            process.terminate()
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"whole")
        assert process.wait(120) == 0


def test_service_that_cannot_be_loaded_fails(tmp_path: Path) -> None:
    with started(tmp_path, "raise SystemError('it is broken')\n") as process:
        assert process.wait(120) == 1
