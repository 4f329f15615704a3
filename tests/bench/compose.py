"""The same programs by Docker Compose, where an engine answers: a cold start, to the first 200."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from rig import ROOT

HERE = Path(__file__).parent / "compose"
PROJECT, URL = "orchestrator-bench", "http://127.0.0.1:18080/api/products"
SECRETS = ("postgres", "redis", "product", "orders", "monitoring")
DEADLINE_S = 120.0


def missing() -> str:
    """Why Compose cannot be measured here; empty if it can."""
    try:
        for words in (["docker", "info"], ["docker", "compose", "version"]):
            done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
            if done.returncode:
                return _last_line(done.stderr) or " ".join(words)
    except FileNotFoundError:
        return "docker is not installed"
    except subprocess.TimeoutExpired:
        return "the engine does not answer"
    return ""


class Compose:
    """The compose file with secrets of its own; images are there before anything is timed."""

    def __init__(self, directory: Path) -> None:
        self._secrets = directory / "secrets"
        self._secrets.mkdir()
        self._secrets.chmod(0o755)
        for name in SECRETS:
            (self._secrets / name).write_text(f"pw-{name}\n")
        self._compose("pull", "--ignore-buildable", "--quiet")
        self._compose("build", "--quiet")

    def cold_s(self) -> float:
        """Seconds from nothing to an answer from the database; everything is removed again."""
        begun = time.perf_counter()
        try:
            self._compose("up", "--detach")
            while not _answers():
                if time.perf_counter() - begun > DEADLINE_S:
                    raise TimeoutError("Docker Compose did not come up in time")
                time.sleep(0.01)
            return time.perf_counter() - begun
        finally:
            self._compose("down", "--volumes", "--timeout", "5")

    def _compose(self, *words: str) -> None:
        file = ["--file", str(HERE / "compose.yaml"), "--project-name", PROJECT]
        subprocess.run(
            ["docker", "compose", *file, *words],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "SECRETS": str(self._secrets), "ROOT": str(ROOT)},
        )


def measure(rounds: int) -> tuple[list[float], str]:
    """Seconds of each round, or none and why."""
    if why := missing():
        return [], why
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        try:
            compose = Compose(Path(directory))
        except subprocess.CalledProcessError as error:  # no registry can be reached, for example
            return [], _last_line(error.stderr) or f"its images cannot be had: {error}"
        return [compose.cold_s() for _ in range(rounds)], ""


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _answers() -> bool:
    request = urllib.request.Request(URL, headers={"Cache-Control": "no-cache"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
