"""What a job would make alike in every lab, made once on this machine and kept for all of them.

One file each in a directory of root's alone, named KEY.DIGEST: the key says what it was made from,
the digest what is in it, so whatever is torn, damaged or made from something else shows. It has
nothing of a lab in it, least of all a secret.

To digest forty megabytes holds up a cold start by 60 ms, so a file's time is set to the digest's
beginning, which is a moment of the seventies: until somebody writes to it, which changes the time,
it need not be read.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import ResourceError
from orchestrator.processes.sandbox import STACK_DIR

# Read and digested at once: after each the thread waits for the interpreter's lock, 5 ms where
# others compute (sys.getswitchinterval).
CHUNK_BYTES = 8 << 20
KEPT = 4  # files of other versions and stacks that stay when one is added
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
TIME_DIGITS = 14  # of the digest: nanoseconds of two years and some
PREPARES = "prepare:"  # what marks begin with, after the lab's, of what is run to prepare


def key_of(
    command: Sequence[str],
    environment: Mapping[str, str],
    programs: Sequence[str],
    stack_dir: Path,
) -> str:
    """Changes with whatever could make the command write something else: its words, the files of
    the stack among them, its environment, the programs by size and time, the C library."""
    path = environment.get("PATH", "")
    parts = [
        list(command),
        [_content(stack_dir / each.removeprefix(f"{STACK_DIR}/")) for each in command
         if each.startswith(f"{STACK_DIR}/")],
        {name: value for name, value in environment.items() if name != "PATH"},
        [_version(shutil.which(each, path=path)) for each in (command[0], *programs)],
        [os.confstr("CS_GNU_LIBC_VERSION"), os.uname().machine],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""  # the command will say it better


def _version(program: str | None) -> list[object]:
    """Of an installed program, without asking it, which takes as long as a small start."""
    if program is None:
        return []
    found = Path(program).resolve()
    seen = found.stat()
    return [str(found), seen.st_size, seen.st_mtime_ns]


class RefusedError(Exception):
    """What lies there is not what we have put there."""


class Store(Struct, frozen=True):
    """The directory; it need not be there."""

    directory: Path

    def has(self, key: str) -> bool:
        """Whether there is a file of that key, by a glance. Raises RefusedError, OSError."""
        try:
            with self._entered() as directory:
                return any(_key(each) == key for each in _names(directory))
        except FileNotFoundError:
            return False

    def open(self, key: str, *, may_read: bool = True) -> tuple[int | None, list[str]]:
        """A descriptor of the prepared file, if there is one that can be trusted; and why each
        of the others is not. Unless it `may_read` them, only of one that nobody has written to."""
        refused: list[str] = []
        try:
            with self._entered() as directory:
                for name in sorted(each for each in _names(directory) if _key(each) == key):
                    try:
                        return _opened(directory, name, may_read=may_read), refused
                    except RefusedError as error:
                        refused.append(f"{self.directory / name} is not used: {error}")
        except FileNotFoundError:
            pass
        except RefusedError as error:
            refused.append(f"{self.directory} is not used: {error}")
        return None, refused

    @contextlib.contextmanager
    def writing(self) -> Iterator[int | None]:
        """The directory's descriptor for whoever adds to it, made if needed; None while another
        process does. Raises RefusedError, OSError."""
        self.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        with self._entered() as directory:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield directory

    @contextlib.contextmanager
    def _entered(self) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self.directory, flags)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise RefusedError("it is no directory, or a link to one") from error
            raise
        try:
            _check_rights(os.fstat(descriptor), DIRECTORY_MODE)
            yield descriptor
        finally:
            os.close(descriptor)


def draft(directory: int) -> int:
    """A descriptor to write to, of a file without a name yet: killed half-way, nothing is left."""
    path = f"/proc/self/fd/{directory}"
    return os.open(path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, FILE_MODE)


def publish(directory: int, key: str, descriptor: int) -> str:
    """Gives a whole draft its name, durably, and takes away what is of no use any more: what was
    refused of the same key, and the oldest of others. Returns the name."""
    os.fchmod(descriptor, FILE_MODE)
    digest = _digest(descriptor)
    time_ns = int(digest[:TIME_DIGITS], 16)
    os.utime(descriptor, ns=(time_ns, time_ns))
    os.fsync(descriptor)
    name = f"{key}.{digest}"
    for other in _names(directory):
        if _key(other) == key:
            _unlink(directory, other)
    # With a directory given os.link is linkat(2), which can follow the link to the file.
    os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory)
    os.fsync(directory)
    times = {
        each: os.stat(each, dir_fd=directory, follow_symlinks=False).st_ctime_ns
        for each in _names(directory)
        if each != name and "." in each  # a directory has none
    }
    for old in sorted(times, key=lambda each: times[each])[: -(KEPT - 1)]:
        _unlink(directory, old)
    return name


def _unlink(directory: int, name: str) -> None:
    with contextlib.suppress(OSError):  # a directory is in nobody's way: no name of ours is alike
        os.unlink(name, dir_fd=directory)


def _names(directory: int) -> list[str]:
    return os.listdir(directory)


def _key(name: str) -> str:
    return name.partition(".")[0]


def _opened(directory: int, name: str, *, may_read: bool) -> int:
    """A descriptor at the file's beginning. Raises RefusedError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise RefusedError("it is a link" if error.errno == errno.ELOOP else str(error)) from error
    try:
        _check_file(descriptor, name, may_read=may_read)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(descriptor: int, name: str, *, may_read: bool) -> None:
    """Raises RefusedError."""
    seen = os.fstat(descriptor)
    if not stat.S_ISREG(seen.st_mode):
        raise RefusedError("it is no file")
    _check_rights(seen, FILE_MODE)
    if seen.st_nlink != 1:
        raise RefusedError("it has another name, too")
    digest = name.partition(".")[2]
    if f"{seen.st_mtime_ns:0{TIME_DIGITS}x}" == digest[:TIME_DIGITS]:
        return
    if not may_read:
        raise RefusedError("it must be read first")
    if _digest(descriptor) != digest:
        raise RefusedError("it is damaged: what is in it is not what its name says")


def _check_rights(seen: os.stat_result, mode: int) -> None:
    """Raises RefusedError for what others own or may change."""
    if seen.st_uid != os.geteuid():
        raise RefusedError(f"it belongs to user {seen.st_uid}")
    if stat.S_IMODE(seen.st_mode) != mode:
        raise RefusedError(f"its mode is {stat.S_IMODE(seen.st_mode):04o}, not {mode:04o}")


def _digest(descriptor: int) -> str:
    # No larger than the file: to make 8 MB of zeros takes longer than to digest a small one.
    whole = os.fstat(descriptor).st_size
    found, place, buffer = hashlib.sha256(), 0, bytearray(min(CHUNK_BYTES, whole + 1))
    while size := os.preadv(descriptor, [buffer], place):
        found.update(memoryview(buffer)[:size])
        place += size
    os.lseek(descriptor, 0, os.SEEK_SET)
    return found.hexdigest()


class Prepared(Struct, frozen=True):
    """What is prepared for one job: where it lies, and how it is known."""

    node: str
    store: Store
    command: tuple[str, ...]
    environment: Mapping[str, str]
    programs: tuple[str, ...]
    stack_dir: Path

    @property
    def key(self) -> str:
        return key_of(self.command, self.environment, self.programs, self.stack_dir)

    def open(
        self, until: contextlib.ExitStack, *, may_read: bool = True
    ) -> tuple[int | None, list[str]]:
        """For the job's standard input, a descriptor that `until` closes, as Store.open finds it.
        Raises ResourceError."""
        try:
            found, refused = self.store.open(self.key, may_read=may_read)
        except OSError as error:
            raise ResourceError(self.node, "read what is prepared for", str(error)) from error
        if found is not None:
            until.callback(os.close, found)
        return found, refused
