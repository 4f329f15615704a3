"""Secrets of a lab: made at first start, readable by root alone, and exchanged for new ones.

A copy lies beside what runs, for as long as that does: what runs has them, so one that somebody
deleted must come back as it was.

While a secret NAME is exchanged, NAME.next lies beside it, and `.rotation` tells how far that has
come, so that whoever comes next after a crash can go on.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import ResourceError
from orchestrator.processes.files import write_private

SECRET_BYTES = 24  # 192 bits, 32 characters of base64
NEXT = ".next"
STATE = ".rotation"


class Phase(StrEnum):
    """How far a rotation is: servers learn the next secrets; then they forget the old ones."""

    ACCEPT = "accept"
    RETIRE = "retire"


class Rotation(Struct, frozen=True):
    """One that is under way."""

    phase: Phase
    names: tuple[str, ...]


class Secrets:
    """Random passwords, mode 0600 in directories of root's alone."""

    def __init__(self, directory: Path, copies: Path) -> None:
        self.directory, self.copies = directory, copies

    def ensure(self, names: Iterable[str]) -> list[str]:
        """Brings back those that do not exist, or makes them where there is no copy, and says
        which it made. Each appears whole or not at all."""
        self.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        made = []
        for name in names:
            if not (self.directory / name).exists():
                text = _read(self.copies / name)
                if text is None:
                    text = secrets.token_urlsafe(SECRET_BYTES)
                    made.append(name)
                self._put(name, text)
        self._copy(names)
        return made

    def _copy(self, names: Iterable[str]) -> None:
        self.copies.mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in names:
            text, copy = self.get(name), self.copies / name
            if _read(copy) != text:
                draft = self.copies / f".{name}.new"
                write_private(draft, text)
                draft.rename(copy)

    def get(self, name: str) -> str:
        """The secret's text. Raises ResourceError if it was not made yet."""
        try:
            return (self.directory / name).read_text()
        except OSError as error:
            raise ResourceError(f"secret:{name}", "read", str(error)) from error

    def valid(self, name: str) -> tuple[str, ...]:
        """The secret and, while it is rotated, the next one: a server takes one of them.

        Raises ResourceError if it was not made yet.
        """
        now, following = self.get(name), _read(self.directory / f"{name}{NEXT}")
        return (now,) if following is None else (now, following)

    def files(self, names: Iterable[str]) -> dict[str, str]:
        """What a service finds: secrets by name, with NAME.next while it is being rotated."""
        found = {}
        for name in names:
            for suffix, text in zip(("", NEXT), self.valid(name), strict=False):
                found[f"{name}{suffix}"] = text
        return found

    # -- rotation ------------------------------------------------------------------------

    def rotation(self) -> Rotation | None:
        """The one that is under way; None if there is none."""
        try:
            phase, *names = (self.directory / STATE).read_text().split()
            return Rotation(Phase(phase), tuple(names))
        except (OSError, ValueError):
            return None

    def begin(self, names: Iterable[str]) -> Rotation:
        """Makes the next secrets, and remembers that they are to be exchanged."""
        chosen = tuple(names)
        for name in chosen:
            self._put(f"{name}{NEXT}", secrets.token_urlsafe(SECRET_BYTES))
        self._put(STATE, " ".join((Phase.ACCEPT, *chosen)))
        return Rotation(Phase.ACCEPT, chosen)

    def exchange(self, rotation: Rotation) -> None:
        """The next ones become the present ones."""
        self._put(STATE, " ".join((Phase.RETIRE, *rotation.names)))
        for name in rotation.names:
            following = self.directory / f"{name}{NEXT}"
            if following.exists():
                following.rename(self.directory / name)
        self._sync()
        self._copy(rotation.names)

    def end(self) -> None:
        (self.directory / STATE).unlink(missing_ok=True)

    def _put(self, name: str, text: str) -> None:
        draft = self.directory / f".{name.lstrip('.')}.new"
        write_private(draft, text)
        descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(descriptor)  # a server may keep its half of it on disk
        os.close(descriptor)
        draft.rename(self.directory / name)
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(descriptor)
        os.close(descriptor)


def _read(path: Path) -> str | None:
    """None if it is not there."""
    try:
        return path.read_text()
    except OSError:
        return None
