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

from orchestrator import frozen, resident
from orchestrator.errors import BusyError
from orchestrator.lab import Lab
from orchestrator.places import make_directory, missing, remove_empty
from orchestrator.processes import procfs

SHORT = ("heal", "alert")  # the supervisor's own work
PATIENCE_S = 60.0  # a healing is over in seconds; its nodes' deadlines bound it
PAUSE_S = 0.05
STOPPED_S = 1.0  # whom a signal has stopped for so long is waited for in vain
UNNAMED_S, UNNAMED_PAUSE_S = 1.0, 0.001  # between a holder's lock and its name: microseconds


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
    until_s = time.monotonic() + UNNAMED_S
    while is_held(lab):
        holder = _holder(lab.lock_file)
        if holder.get("command") in SHORT:
            return
        if holder or time.monotonic() >= until_s:
            raise BusyError(_who_holds(lab, holder))
        time.sleep(UNNAMED_PAUSE_S)


@contextlib.asynccontextmanager
async def lock(lab: Lab, command: str, *, patience_s: float = 0.0) -> AsyncIterator[int]:
    """Holds the lab for the length of the block; the file tells who. Raises BusyError, and
    UsageError if the command would change a lab that is frozen.

    Gives the descriptor: a process that inherits it holds the lab too, until it closes it.

    With patience, work of the supervisor's is waited for: a person need not know of it.
    The file lies beside the lab's run directory, which `down` takes away while holding it,
    and goes when that is gone.
    """
    new = missing(lab.run_root)
    make_directory(lab.run_root)
    path = lab.lock_file
    descriptor = await _patiently(lab, time.monotonic() + patience_s)
    pid = os.getpid()
    seen = procfs.stat(pid)
    assert seen is not None
    holder = {"pid": pid, "start_ticks": seen.start_ticks, "command": command}
    holder["since_s"] = time.monotonic()
    try:
        _name(descriptor, holder)
        frozen.refuse(lab, command)
        yield descriptor
    finally:
        if not lab.run_dir.exists():
            with contextlib.suppress(OSError):
                path.unlink()
            remove_empty(new or [lab.run_root])
        _name(descriptor, {**holder, "until_s": time.monotonic()})
        os.close(descriptor)


def _name(descriptor: int, holder: dict[str, Any]) -> None:
    """Writes who holds it, or did: the next one has it for a moment before its name is there."""
    with contextlib.suppress(OSError):  # a full disk: it is held without a name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)


async def _patiently(lab: Lab, until_s: float) -> int:
    going_s = time.monotonic()  # when the holder was last seen not to be stopped
    unnamed_until_s = going_s + UNNAMED_S
    while (descriptor := _locked(lab.lock_file)) is None:
        holder, now_s = _holder(lab.lock_file), time.monotonic()
        if not _is_stopped(holder):
            going_s = now_s
        if not holder and now_s < unnamed_until_s:
            await asyncio.sleep(UNNAMED_PAUSE_S)
        elif holder.get("command") in SHORT and now_s < min(until_s, going_s + STOPPED_S):
            unnamed_until_s = now_s + PAUSE_S + UNNAMED_S
            await asyncio.sleep(PAUSE_S)
        else:
            raise BusyError(_who_holds(lab, holder))
    return descriptor


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock on the file that has the name now; None if it is held."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass  # its last holder took it away between our open and our lock
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.close(descriptor)


def _holder(path: Path) -> dict[str, Any]:
    """What the holder wrote about itself; nothing while that is not there yet, or of one before:
    who let go says so, and who was killed runs no more."""
    try:
        found = json.loads(path.read_text())
        if "until_s" in found or not procfs.is_alive(found["pid"], found["start_ticks"]):
            return {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return dict(found)


def _is_stopped(holder: dict[str, Any]) -> bool:
    return bool(holder) and procfs.is_stopped(holder["pid"])


def _who_holds(lab: Lab, holder: dict[str, Any]) -> str:
    who, mend = "another run", "wait until it is done, or stop it with Ctrl-C"
    if holder:
        age_s = time.monotonic() - holder["since_s"]
        pid, by = holder["pid"], ""
        present = resident.find(lab)
        if present is not None and present.pid == pid:
            by = ", its supervisor"
            mend = "wait until it is done: it goes on with or without who asked for it"
        if _is_stopped(holder):
            mend = f"`kill -CONT {pid}` lets it go on"
            mend += ", `orchestrator up` puts a new one in its place" if by else ""
            by += ", which is stopped (state T)"
        who = f"`{holder['command']}` with pid {pid}{by}, for {age_s:.0f} s"
    return f"lab {lab.name} is busy: {who}\n  mend: {mend}"
