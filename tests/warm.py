"""The orchestrator without its start: a process that has imported everything forks for each
command line, which then runs as it does in a shell, with its own exit code and output."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rig import ROOT, TIMEOUT_S, Done

CRASH = str(ROOT / "tests" / "crash.py")

MODULES = (
    *("aiohttp", "asyncpg", "redis.asyncio"),
    *("orchestrator.commands.why", "orchestrator.commands.replay", "orchestrator.commands.look"),
    *("orchestrator.commands.run", "orchestrator.commands.check", "orchestrator.commands.path"),
    *("orchestrator.diagnosis.examine", "orchestrator.diagnosis.report"),
    *("orchestrator.commands.run", "crash"),
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
        """Runs these command lines at the same time: `World.words`, or crash.py's."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(words)[1:] for words in commands]) + "\n")
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
    code = 1
    try:
        for descriptor, file in ((1, out), (2, err)):
            os.dup2(file, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.alarm(int(TIMEOUT_S))
        _main(words)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - the answer tells, as an interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(words: list[str]) -> None:
    if words[0] == CRASH:
        import crash

        crash.main(words[1:])
        return
    from orchestrator.cli import main

    sys.argv = ["orchestrator", *words[2:]]  # after `-m orchestrator`
    main()


def _finished(pid: int, *files: int) -> dict[str, Any]:
    _, status = os.waitpid(pid, 0)
    texts = []
    for file in files:
        texts.append(Path(f"/proc/self/fd/{file}").read_text())
        os.close(file)
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}
