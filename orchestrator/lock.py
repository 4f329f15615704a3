"""One run per lab at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from orchestrator import frozen
from orchestrator.errors import BusyError
from orchestrator.lab import Lab
from orchestrator.places import make_directory

SHORT = ("heal", "alert")  # the supervisor's own work
PATIENCE_S = 60.0  # a healing is over in seconds; its nodes' deadlines bound it
PAUSE_S = 0.05


def is_held(lab: Lab) -> bool:
    """Whether a run works on the lab at this moment."""
    try:
        descriptor = os.open(lab.lock_file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def refuse_if_busy(lab: Lab) -> None:
    """Raises BusyError if a person's command works on the lab: before anything is changed,
    its supervisor included. The supervisor's own work is no reason to refuse."""
    path = lab.lock_file
    if is_held(lab) and _holder(path).get("command") not in SHORT:
        raise BusyError(_who_holds(path, lab.name))


@contextlib.asynccontextmanager
async def lock(lab: Lab, command: str, *, patience_s: float = 0.0) -> AsyncIterator[None]:
    """Holds the lab for the length of the block; the file tells who. Raises BusyError, and
    UsageError if the command would change a lab that is frozen.

    With patience, work of the supervisor's is waited for: a person need not know of it.
    The file lies beside the lab's run directory, which `down` takes away while holding it,
    and goes when that is gone.
    """
    make_directory(lab.run_root)
    path = lab.lock_file
    descriptor = await _patiently(path, lab.name, time.monotonic() + patience_s)
    try:
        holder = {"pid": os.getpid(), "command": command, "since_s": time.monotonic()}
        with contextlib.suppress(OSError):  # a full disk: it is held without a name
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(holder).encode())
        frozen.refuse(lab, command)
        yield
    finally:
        if not lab.run_dir.exists():
            with contextlib.suppress(OSError):
                path.unlink()
                lab.run_root.rmdir()
        os.close(descriptor)


async def _patiently(path: Path, lab: str, until_s: float) -> int:
    while True:
        try:
            return _locked(path, lab)
        except BusyError:
            if time.monotonic() >= until_s or _holder(path).get("command") not in SHORT:
                raise
            await asyncio.sleep(PAUSE_S)


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


def _holder(path: Path) -> dict[str, Any]:
    """What the holder wrote about itself; nothing if that cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _who_holds(path: Path, lab: str) -> str:
    holder = _holder(path)
    try:
        age_s = time.monotonic() - holder["since_s"]
        who = f"`{holder['command']}` with pid {holder['pid']}, for {age_s:.0f} s"
    except (KeyError, TypeError):
        who = "another run"
    return f"lab {lab} is busy: {who}\n  mend: wait until it is done, or stop it with Ctrl-C"
