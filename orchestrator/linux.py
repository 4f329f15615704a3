"""The few system calls that Python 3.11 has no function for.

`os.setns` and `os.unshare` came with 3.12, `mount` never did. Constants are those of
linux/sched.h and linux/mount.h.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import ParamSpec, TypeVar

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 1 << 20
MNT_DETACH = 2
# asm-generic/unistd.h; the same on every architecture since Linux 5.2 and 5.6
SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT, SYS_PIDFD_GETFD = 430, 431, 432, 438
FSOPEN_CLOEXEC, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC = 1, 6, 1

NICE = os.getpriority(os.PRIO_PROCESS, 0)  # what this process was started with
AHEAD = 5  # nicer than that by so much is whoever everybody else waits for

NETNS_DIR = Path("/run/netns")  # ip-netns(8): where named network namespaces live

P = ParamSpec("P")
T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: object, path: str = "") -> None:
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path or None)


def setns(fd: int) -> None:
    """Moves the calling thread into the network namespace of the descriptor: setns(2)."""
    _call("setns", fd, CLONE_NEWNET)


def unshare_net() -> None:
    """Gives the calling thread a fresh network namespace: unshare(2)."""
    _call("unshare", CLONE_NEWNET)


def mount(source: str, target: str, flags: int) -> None:
    """mount(2) without file system type and data: bind mounts and propagation."""
    _call("mount", source.encode(), target.encode(), b"none", flags, None, path=target)


def unmount(target: str, *, lazily: bool = False) -> None:
    """umount2(2)."""
    _call("umount2", target.encode(), MNT_DETACH if lazily else 0, path=target)


def set_nice(value: int, *, process: int = 0) -> None:
    """Of the calling thread alone (or that process), and of what it starts: setpriority(2), "C
    library/kernel differences". Where that is not allowed it stays as it is."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process, value)


def set_session_nice(pid: int, value: int) -> None:
    """Of the process's whole session, where the kernel shares the processors out by sessions and
    a nice value counts only within one: sched(7), "The autogroup feature"."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(value))


@contextmanager
def ahead() -> Iterator[None]:
    """The calling thread is served before the programs that it starts, for the length of the
    block: they take all cores while they load, and wait for it."""
    set_nice(NICE - AHEAD)
    try:
        yield
    finally:
        set_nice(NICE)


def in_memory(name: str, content: bytes) -> int:
    """A descriptor of a file that is nowhere but in memory, at its beginning; the caller closes
    it. The name is for who looks at /proc: memfd_create(2)."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def own_namespace() -> int:
    """A descriptor of the calling thread's network namespace."""
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)


def duplicate(pid: int, descriptor: int) -> int:
    """Our own copy of another process's file descriptor: pidfd_getfd(2)."""
    handle = os.pidfd_open(pid)
    try:
        return _system_call(SYS_PIDFD_GETFD, handle, descriptor, 0)
    finally:
        os.close(handle)


def open_proc() -> int:
    """A descriptor of a /proc of one's own, mounted nowhere, gone when it is closed: fsopen(2).

    Raises OSError.
    """
    context = _system_call(SYS_FSOPEN, b"proc", FSOPEN_CLOEXEC)
    try:
        _system_call(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _system_call(SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def _system_call(*args: object) -> int:
    result = int(_libc.syscall(*args))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@contextmanager
def inside(namespace: Path | None) -> Iterator[None]:
    """The calling thread is in that network namespace for the length of the block.

    The block must not await: another task would run in there. None: stay.
    Raises OSError if the path is no namespace.
    """
    if namespace is None:
        yield
        return
    there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    here = own_namespace()
    try:
        setns(there)
        try:
            yield
        finally:
            setns(here)
    finally:
        os.close(here)
        os.close(there)


# Threads of our own: a thread of asyncio's pool that failed to come back from a namespace
# would serve others from there.
_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="namespace")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a function that enters namespaces or starts processes away from the event loop."""

    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, partial(function, *args, **kwargs))


async def in_thread_to_its_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_thread`; if cancelled it waits for the thread first, so that what the thread works
    on can be closed afterwards, and what it has started be found."""
    return await _to_its_end(in_thread(function, *args, **kwargs))


async def in_own_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_thread_to_its_end`, in a thread that ends with the function: what it changed of
    itself, like its control group, is nobody else's."""
    loop = asyncio.get_running_loop()
    alone = ThreadPoolExecutor(max_workers=1, thread_name_prefix="start")
    try:
        work = loop.run_in_executor(alone, partial(function, *args, **kwargs))
        return await _to_its_end(work)
    finally:
        alone.shutdown(wait=False)


async def _to_its_end(work: Awaitable[T]) -> T:
    """A second cancel does not cut the wait short either: the first is passed on after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    finally:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])


def appear(path: Path, text: str) -> None:
    """Makes a file that has its whole text from the first instant: open(2), O_TMPFILE.

    One that is killed half-way leaves nothing, where a rename would leave its draft. What is
    there under the name is replaced.
    """
    directory = _opened(path.parent)
    try:
        descriptor = os.open(
            ".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory
        )
        try:
            os.write(descriptor, text.encode())
            source = f"/proc/self/fd/{descriptor}"
            # With a directory given os.link is linkat(2), which can follow the link to the file.
            try:
                os.link(source, path.name, dst_dir_fd=directory)
            except FileExistsError:
                path.unlink(missing_ok=True)
                os.link(source, path.name, dst_dir_fd=directory)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        path.unlink(missing_ok=True)
        path.write_text(text)  # a file system that knows no O_TMPFILE
    finally:
        os.close(directory)


class OneFile:
    """A text that appears under one name after the other, all of them of one file: for what
    nobody edits. To make a file of its own for each takes a disk ten times as long."""

    def __init__(self) -> None:
        self._text, self._file = "", -1

    def appear(self, path: Path, text: str) -> None:
        """As the function `appear`."""
        if self._file >= 0 and text == self._text:
            # No name of it is left, it has as many as it can, or `path` is on another mount.
            with suppress(OSError):
                os.link(f"/proc/self/fd/{self._file}", path, src_dir_fd=self._file)
                return
        appear(path, text)
        if self._file >= 0:
            os.close(self._file)
        self._text, self._file = text, os.open(path, os.O_PATH | os.O_CLOEXEC)


def _opened(directory: Path) -> int:
    """A descriptor of the directory, which is made if need be."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(directory, flags)
    except FileNotFoundError:
        directory.mkdir(parents=True, exist_ok=True)
        return os.open(directory, flags)


@cache
def netns_device() -> int:
    """st_dev of the nsfs file system: what tells a live namespace from a stale file."""
    return Path("/proc/self/ns/net").stat().st_dev


def is_namespace(path: Path) -> bool:
    """Whether the path is a live namespace, not the empty file that a crash leaves."""
    try:
        return path.stat().st_dev == netns_device()
    except OSError:
        return False
