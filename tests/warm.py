"""The orchestrator without its start: a process that has imported everything forks for each
command line, which then runs as it does in a shell, with its own exit code and output."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rig import Done

MODULES = (
    *("aiohttp", "asyncpg", "redis.asyncio"),
    *("orchestrator.commands.why", "orchestrator.commands.replay", "orchestrator.commands.look"),
    *("orchestrator.diagnosis.examine", "orchestrator.diagnosis.report"),
)


class Warm:
    """The parent's handle; one request line out, one answer line in."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import warm; warm.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def run(self, *commands: Sequence[str]) -> list[Done]:
        """Runs these command lines (as `World.words` gives them) at the same time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(words)[3:] for words in commands]) + "\n")
        self._process.stdin.flush()
        return [Done(**each) for each in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        self._process.communicate()


def serve() -> None:
    """The forking process's own loop; ends with its input."""
    for name in MODULES:
        importlib.import_module(name)
    for line in sys.stdin:
        started = [_start(words) for words in json.loads(line)]
        sys.stdout.write(json.dumps([_finished(*each) for each in started]) + "\n")
        sys.stdout.flush()


def _start(words: list[str]) -> tuple[int, int, int]:
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    pid = os.fork()
    if pid:
        return pid, out, err
    from orchestrator.cli import main

    code = 1
    try:
        for descriptor, file in ((1, out), (2, err)):
            os.dup2(file, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["orchestrator", *words]
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _finished(pid: int, *files: int) -> dict[str, Any]:
    _, status = os.waitpid(pid, 0)
    texts = []
    for file in files:
        texts.append(Path(f"/proc/self/fd/{file}").read_text())
        os.close(file)
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}
