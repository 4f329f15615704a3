"""The supervisor as a process of its own: one per lab, found by the lock that it holds."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import BusyError
from orchestrator.lab import Lab

STOP_GRACE_S = 5.0
START_DEADLINE_S, START_LOOK_S = 10.0, 0.01


class Resident(Struct, frozen=True):
    """The supervisor that runs: its pid, and the fingerprint of what it knows as wanted."""

    pid: int
    digest: str


def _path(lab: Lab) -> Path:
    return lab.run_dir / "supervisor.json"


@contextlib.contextmanager
def hold(lab: Lab, digest: str) -> Iterator[Callable[[], bool]]:
    """Makes this process the lab's supervisor. Raises BusyError if there is one.

    Gives what tells whether it still is: somebody may delete the run directory, and with it
    the lock that keeps the next one away.
    """
    path = _path(lab)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            found = find(lab)
            who = f"pid {found.pid}" if found else "another process"
            raise BusyError(f"lab {lab.name} already has a supervisor: {who}") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "digest": digest}).encode())
        mine = os.fstat(descriptor)

        def is_held() -> bool:
            try:
                return os.path.samestat(path.stat(), mine)
            except OSError:
                return False

        yield is_held
    finally:
        os.close(descriptor)


def find(lab: Lab) -> Resident | None:
    """The supervisor that holds the lock now; None if nobody does."""
    try:
        descriptor = os.open(_path(lab), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            written = json.loads(os.pread(descriptor, 4096, 0))
            return Resident(int(written["pid"]), str(written["digest"]))
        except (ValueError, KeyError, TypeError):
            return None  # it is writing this very moment
    finally:
        os.close(descriptor)
    return None


async def start(lab: Lab, words: Sequence[str], held: int) -> Resident | None:
    """Starts `orchestrator supervise` with these options, detached; waits until it is found.

    It inherits `held`, the descriptor of the lab's lock, until then: nobody else works on the
    lab before `find` knows it, not even if this process is killed. None if it did not come up;
    its log says why, and it never will.
    """
    process = _spawn(lab, ["--held", str(held), *words], held)
    until = time.monotonic() + START_DEADLINE_S
    present = None
    try:
        while time.monotonic() < until and process.poll() is None:
            found = find(lab)
            if found is not None and found.pid == process.pid:
                present = found
                break
            await asyncio.sleep(START_LOOK_S)
    finally:
        if present is None:
            process.kill()
            process.wait()
    return present


def _spawn(lab: Lab, words: Sequence[str], held: int) -> subprocess.Popen[bytes]:
    log = lab.log("supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "supervise", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            pass_fds=(held,),
        )


def stop(lab: Lab) -> bool:
    """Ends the lab's supervisor; returns when it is gone. False if there was none."""
    found = find(lab)
    if found is None:
        return False
    try:
        handle = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return False
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
                signal.pidfd_send_signal(handle, signal.SIGCONT)  # stopped, it would hear nothing
            if select.select([handle], [], [], STOP_GRACE_S)[0]:
                break
    finally:
        os.close(handle)
    return True
