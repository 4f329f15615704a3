"""What lies where a lab keeps its files must be what we put there: a pipe in the place of a log
would hold a run up for ever, a link would have root write somewhere else."""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from orchestrator.errors import DISK_ERRORS, UsageError
from orchestrator.lab import Lab

KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
OPTIONS, CACHE_OPTION = "--state-dir or --run-dir", "--cache-dir"
# Who may not look has it said by what they wanted to do.
NOT_OURS_TO_SAY = (errno.ENOENT, errno.EACCES, errno.EPERM)


def check_places(lab: Lab) -> None:
    """Raises UsageError. What is not there yet is fine.

    Directories may be links to directories, on another disk for instance; files may not.
    """
    below = [lab.state_dir / name for name in ("logs", "secrets", "data")]
    for path in (lab.state_root, lab.run_root, lab.state_dir, lab.run_dir, *below):
        _check(path, stat.S_IFDIR, follow=True)
    for path in (lab.journal, lab.lock_file, *_entries(lab.state_dir / "logs")):
        _check(path, stat.S_IFREG, follow=False)
    for path in _entries(lab.state_dir / "secrets"):
        _check(path, stat.S_IFREG, follow=False)


def check_cache(lab: Lab, *names: str) -> None:
    """The same for what is prepared for every lab, and directories of these names in it. None of
    them may be a link."""
    for path in (lab.cache_root, *(lab.cache_root / name for name in names)):
        _check(path, stat.S_IFDIR, follow=False, options=CACHE_OPTION)


def make_directory(path: Path, *, mode: int = 0o755, options: str = OPTIONS) -> None:
    """With those above it. Raises UsageError where there cannot be one."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        raise UsageError(
            f"cannot make {path}: {error.strerror}\n  mend: another {options}"
        ) from error


def missing(path: Path) -> list[Path]:
    """What is not there of the path and those above it, the innermost first."""
    return [each for each in (path, *path.parents) if not each.exists()]


def remove_empty(paths: Iterable[Path]) -> None:
    """Directories, in this order; one that holds something stays."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.rmdir()


def _entries(directory: Path) -> Iterator[Path]:
    try:
        yield from directory.iterdir()
    except OSError:
        return


def _check(path: Path, wanted: int, *, follow: bool, options: str = OPTIONS) -> None:
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except OSError as error:
        if error.errno in NOT_OURS_TO_SAY:
            return
        reason = f"cannot use {path}: {error.strerror}\n  mend: give another {options}"
        raise UsageError(reason) from error
    if kind == stat.S_IFLNK and follow:
        try:
            kind = stat.S_IFMT(path.stat().st_mode)
        except OSError as error:
            raise UsageError(f"cannot use {path}: {error.strerror}") from error
    if kind != wanted:
        found = KINDS.get(kind, "something else")
        raise UsageError(
            f"cannot use {path}: it is {found}, not {KINDS[wanted]}\n"
            f"  mend: move it away, or give another {options}"
        )
