"""One sandboxed process: started inside a network namespace, watched, and stopped as a tree.

Its pid 1 is the handle on everything that it ever started: when that ends, the kernel kills
the rest of its process namespace (pid_namespaces(7)).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from orchestrator.bounded import bounded
from orchestrator.errors import ProcessError
from orchestrator.linux import (
    AHEAD,
    NICE,
    in_memory,
    in_own_thread,
    inside,
    set_nice,
    set_session_nice,
)
from orchestrator.processes import procfs, seccomp
from orchestrator.processes.cgroup import Group
from orchestrator.processes.sandbox import Sandbox
from orchestrator.terminal import whole_lines

LOG_LINES = 15
LOG_LIMIT_BYTES = 20_000_000  # a larger log is put aside as NAME.log.1 at the next start
KILL_DEADLINE_S, KILL_PAUSE_S = 10.0, 0.002
OPEN_FILES = 16_384  # by each process


class Child(Struct):
    """A sandbox that was started by us: `pid` is its pid 1 as the host counts."""

    pid: int
    start_ticks: int
    waiter: subprocess.Popen[bytes]  # bubblewrap outside of it; ends with its exit code
    log: Path
    log_start: int  # where this process's own part of the log begins

    def log_lines(self) -> tuple[str, ...]:
        """The last lines that it wrote."""
        return tail(self.log, since=self.log_start)


def tail(log: Path, *, lines: int = LOG_LINES, since: int = 0) -> tuple[str, ...]:
    """The last lines of a log from a position on, without trailing blanks."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(since, end - 64_000))
            data = file.read().rstrip()
    except OSError:
        return ()
    if not data:
        return ()
    return tuple(deque((line.rstrip() for line in whole_lines(data + b"\n")), maxlen=lines))


async def start(
    node: str,
    sandbox: Sandbox,
    *,
    group: Group,
    namespace: Path | None,
    environment: Mapping[str, str],
    log: Path,
    is_awaited: bool = False,
    given: int | None = None,
    output: int | None = None,
) -> Child:
    """Starts the program inside the namespace, detached from our terminal and life.

    It begins once it is under its group's limits. `is_awaited`: others wait for its end, so it
    is served before them. `given` is its standard input (default: an empty one), `output` its
    standard output (default: the log). Raises ProcessError with the log's last lines if the
    sandbox could not be built.
    """
    try:
        return await in_own_thread(
            _start,
            node,
            sandbox,
            group,
            namespace,
            environment,
            log,
            is_awaited=is_awaited,
            given=given,
            output=output,
        )
    except OSError as error:
        raise ProcessError(node, "start", str(error)) from error


def _start(
    node: str,
    sandbox: Sandbox,
    group: Group,
    namespace: Path | None,
    environment: Mapping[str, str],
    log: Path,
    *,
    is_awaited: bool,
    given: int | None,
    output: int | None,
) -> Child:
    set_nice(NICE - AHEAD if is_awaited else NICE)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.rename(log.with_suffix(".log.1"))
    with contextlib.ExitStack() as open_until_started:
        info, told = _pipe(open_until_started)
        held, _ = _pipe(open_until_started)  # the program begins when the other end is closed
        denied = seccomp.descriptor()
        inherited = [told.fileno(), held.fileno()]
        if denied is not None:
            open_until_started.callback(os.close, denied)
            inherited.append(denied)
        texts: dict[str, int] = {}
        for place, content in sandbox.texts().items():
            texts[place] = in_memory(place, content.encode())
            open_until_started.callback(os.close, texts[place])
        inherited += texts.values()
        if sandbox.listener is not None:
            inherited.append(sandbox.listener)
        group.enter()
        with log.open("ab") as written, inside(namespace):
            log_start = written.tell()
            # Programs may open /dev/stdout again, as nginx does; that asks the file's mode.
            os.fchown(written.fileno(), sandbox.user.uid, sandbox.user.gid)
            waiter = subprocess.Popen(
                sandbox.words(
                    info_fd=told.fileno(),
                    block_fd=held.fileno(),
                    seccomp_fd=denied,
                    text_fds=texts,
                ),
                env=dict(environment),
                stdin=subprocess.DEVNULL if given is None else given,
                stdout=written if output is None else output,
                stderr=written,
                cwd="/",
                start_new_session=True,
                pass_fds=inherited,
            )
        if nice := -AHEAD if is_awaited else sandbox.nice:
            set_session_nice(waiter.pid, nice)
        told.close()
        held.close()
        text = info.read()  # ends when bubblewrap closes it, or dies
        try:
            pid = json.loads(text)["child-pid"]
        except (ValueError, KeyError) as error:
            code = waiter.wait()
            reason = f"its sandbox could not be built (bwrap ended with {code})"
            raise ProcessError(node, "start", reason, log=tail(log, since=log_start)) from error
        try:
            group.confine([pid], entered=True)
            _limit_files(pid)
            if sandbox.nice:
                set_nice(os.getpriority(os.PRIO_PROCESS, 0) + sandbox.nice, process=pid)
        except OSError as error:
            _send(pid, signal.SIGKILL)  # rather none than one without limits
            waiter.wait()
            raise ProcessError(node, "limit", str(error)) from error
    seen = procfs.stat(pid)
    return Child(pid, seen.start_ticks if seen else 0, waiter, log, log_start)


def _limit_files(pid: int) -> None:
    """Neither so few as a person's shell has, nor without end, whoever starts us. Only here, and
    never put back: a program whose limit somebody lowered is for the supervisor to find."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # it has ours
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


def _pipe(until: contextlib.ExitStack) -> tuple[BinaryIO, BinaryIO]:
    """The reading and the writing end."""
    reader, writer = os.pipe()
    return (
        until.enter_context(os.fdopen(reader, "rb")),
        until.enter_context(os.fdopen(writer, "wb")),
    )


async def wait_for_exit(pid: int) -> None:
    """Returns once the process has ended; at once if there is none of that pid."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def exit_code(child: Child) -> int:
    """The program's exit code once it has ended; 128 + n for a signal, as shells say."""
    await wait_for_exit(child.waiter.pid)
    return child.waiter.wait()


async def stop_job(sandboxes: Sequence[procfs.Sandbox]) -> None:
    """As `stop`, of one that nobody waits for any more."""
    await stop(sandboxes, stop_signal=signal.SIGTERM, grace_s=5.0)


async def stop(
    sandboxes: Sequence[procfs.Sandbox], *, stop_signal: signal.Signals, grace_s: float
) -> None:
    """Asks the programs to leave, then kills what is left; returns when all are gone."""
    # A sandbox whose maker was killed half-way has no program: nobody to ask, or to wait for.
    inits = [each for each in sandboxes if each.is_init and procfs.children(each.pid)]
    for init in inits:
        for program in procfs.children(init.pid):
            _send(program, stop_signal)
        for process in procfs.descendants(init.pid):
            _send(process, signal.SIGCONT)  # one that was stopped could not hear it
    with contextlib.suppress(TimeoutError):
        await bounded(grace_s if inits else 0, _ends(inits))
    _kill(sandboxes)
    await bounded(KILL_DEADLINE_S, _ends(sandboxes))
    for each in sandboxes:
        # Our own children stay as zombies until they are asked for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(each.pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended: no waiting


async def _ends(sandboxes: Sequence[procfs.Sandbox]) -> None:
    for each in sandboxes:
        if procfs.is_alive(each.pid, each.start_ticks):
            await wait_for_exit(each.pid)


def kill(sandboxes: Sequence[procfs.Sandbox]) -> None:
    """Ends them without asking; returns when all are gone. For what has no state to save."""
    _kill(sandboxes)
    deadline = time.monotonic() + KILL_DEADLINE_S
    for each in sandboxes:
        while procfs.is_alive(each.pid, each.start_ticks) and time.monotonic() < deadline:
            time.sleep(KILL_PAUSE_S)


def _kill(sandboxes: Sequence[procfs.Sandbox]) -> None:
    for each in sandboxes:
        if procfs.is_alive(each.pid, each.start_ticks):
            _send(each.pid, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
