"""One run per lab at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import BusyError
from orchestrator.lab import Lab


def _path(lab: Lab) -> Path:
    return lab.run_root / f".{lab.name}.lock"


def is_held(lab: Lab) -> bool:
    """Whether a run works on the lab at this moment."""
    try:
        descriptor = os.open(_path(lab), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def lock(lab: Lab, command: str) -> Iterator[None]:
    """Holds the lab for the length of the block; the file tells who. Raises BusyError.

    The file lies beside the lab's run directory, which `down` takes away while holding it,
    and goes when that is gone.
    """
    lab.run_root.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = _path(lab)
    descriptor = _locked(path, lab.name)
    try:
        os.ftruncate(descriptor, 0)
        holder = {"pid": os.getpid(), "command": command, "since": time.time()}
        os.write(descriptor, json.dumps(holder).encode())
        yield
    finally:
        if not lab.run_dir.exists():
            with contextlib.suppress(OSError):
                path.unlink()
                lab.run_root.rmdir()
        os.close(descriptor)


def _locked(path: Path, lab: str) -> int:
    """A descriptor that holds the lock on the file that has the name now."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass  # its last holder took it away between our open and our lock
        except BlockingIOError as error:
            os.close(descriptor)
            raise BusyError(_who_holds(path, lab)) from error
        os.close(descriptor)


def _who_holds(path: Path, lab: str) -> str:
    try:
        holder = json.loads(path.read_text())
        age_s = time.time() - holder["since"]
        who = f"`{holder['command']}` with pid {holder['pid']}, for {age_s:.0f} s"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another run"
    return f"lab {lab} is busy: {who}\n  mend: wait until it is done, or stop it with Ctrl-C"
