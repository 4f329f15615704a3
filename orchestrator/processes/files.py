"""What a service finds in its sandbox: rendered files, secrets, data directories."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath

from msgspec import Struct

IDENTITY = "trusted.orchestrator.id"
NAMED = 50  # characters of a file's name on the host, of 255 bytes, that are its name inside


def write_private(path: Path, text: str, *, uid: int = 0, gid: int = 0, mode: int = 0o600) -> None:
    """Writes a file that is never, not even for an instant, open to others."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)


def ensure_data_directory(path: Path, *, uid: int, gid: int) -> None:
    """A directory that its service alone may use; what is in it changes hands if needed."""
    path.mkdir(parents=True, exist_ok=True)
    if path.stat().st_uid != uid or path.stat().st_gid != gid:
        for root, directories, names in os.walk(path):
            for name in (*directories, *names):
                os.chown(Path(root, name), uid, gid, follow_symlinks=False)
        os.chown(path, uid, gid)
    path.chmod(0o700)
    if not identity_of(path):
        with contextlib.suppress(OSError):  # a file system without: then nobody can tell
            os.setxattr(path, IDENTITY, secrets.token_hex(8).encode())


def identity_of(path: Path) -> str:
    """Of a data directory: another one once it was deleted and made again. Empty if unknown.

    In an attribute that only root sees (xattr(7)): inode numbers are used again.
    """
    try:
        return os.getxattr(path, IDENTITY).decode()
    except OSError:
        return ""


class Folder(Struct, frozen=True):
    """A node's own directory under /run: what is bound into its sandbox."""

    path: Path

    def place_of(self, inside: str) -> Path:
        """Where what the sandbox has at this path is on the host. All side by side: to make the
        directories above each would take longer than the files."""
        digest = hashlib.sha256(inside.encode()).hexdigest()[:8]
        return self.path / f"{digest}-{PurePath(inside).name[-NAMED:]}"

    def write(self, texts: Mapping[str, str], *, uid: int, gid: int, mode: int) -> dict[str, Path]:
        """Texts by their path inside the sandbox. Returns where each file is on the host."""
        placed: dict[str, Path] = {}
        for inside, text in texts.items():
            outside = self.place_of(inside)
            self.path.mkdir(parents=True, exist_ok=True)
            write_private(outside, text, uid=uid, gid=gid, mode=mode)
            placed[inside] = outside
        return placed

    def publish(self, inside: str, texts: Mapping[str, str], *, uid: int, gid: int) -> Path:
        """A directory that holds exactly these files, each whole at every instant, also for a
        program that has it mounted. Returns where it is on the host."""
        directory = self.place_of(inside)
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            draft = self.path / f".{name}"
            write_private(draft, text, uid=uid, gid=gid, mode=0o400)
            draft.rename(directory / name)
        for path in directory.iterdir():
            if path.name not in texts:
                path.unlink()
        return directory

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
