"""What a service finds in its sandbox: rendered files, secrets, data directories."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ResourceError

IDENTITY = "trusted.orchestrator.id"
SECRET_BYTES = 24  # 192 bits, 32 characters of base64


class Secrets:
    """Random passwords, made at first start, mode 0600 in a directory of root's alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, str] = {}

    def ensure(self, names: tuple[str, ...]) -> None:
        """Makes those that do not exist. Each appears whole or not at all."""
        self._directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in names:
            path = self._directory / name
            if not path.exists():
                draft = self._directory / f".{name}.new"
                write_private(draft, secrets.token_urlsafe(SECRET_BYTES))
                draft.rename(path)

    def get(self, name: str) -> str:
        """The secret's text. Raises ResourceError if it was not made yet."""
        try:
            self._known[name] = (self._directory / name).read_text()
        except OSError as error:
            raise ResourceError(f"secret:{name}", "read", str(error)) from error
        return self._known[name]

    def restore(self) -> None:
        """Writes back what we have read and somebody has deleted since: what runs has it."""
        for name, text in self._known.items():
            path = self._directory / name
            if not path.exists():
                self._directory.mkdir(parents=True, mode=0o700, exist_ok=True)
                write_private(path, text)


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


@dataclass(frozen=True, slots=True)
class Folder:
    """A node's own directory under /run: what is bound into its sandbox."""

    path: Path

    def write(self, texts: Mapping[str, str], *, uid: int, gid: int, mode: int) -> dict[str, Path]:
        """Texts by their path inside the sandbox. Returns where each file is on the host."""
        placed: dict[str, Path] = {}
        for inside, text in texts.items():
            outside = self.path / "files" / inside.lstrip("/")
            outside.parent.mkdir(parents=True, exist_ok=True)
            write_private(outside, text, uid=uid, gid=gid, mode=mode)
            placed[inside] = outside
        return placed

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
