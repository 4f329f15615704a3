"""Secrets of a lab: made at first start, readable by root alone, and exchanged for new ones.

While a secret NAME is exchanged, NAME.next lies beside it, and `.rotation` tells how far that has
come, so that whoever comes next after a crash can go on.
"""

from __future__ import annotations

import contextlib
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
    """Random passwords, mode 0600 in a directory of root's alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, str] = {}

    def ensure(self, names: Iterable[str]) -> list[str]:
        """Makes those that do not exist, and says which. Each appears whole or not at all."""
        self.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        made = [name for name in names if not (self.directory / name).exists()]
        for name in made:
            self._put(name, secrets.token_urlsafe(SECRET_BYTES))
        return made

    def get(self, name: str) -> str:
        """The secret's text. Raises ResourceError if it was not made yet."""
        try:
            self._known[name] = (self.directory / name).read_text()
        except OSError as error:
            raise ResourceError(f"secret:{name}", "read", str(error)) from error
        return self._known[name]

    def valid(self, name: str) -> tuple[str, ...]:
        """The secret and, while it is rotated, the next one: a server takes one of them.

        Raises ResourceError if it was not made yet.
        """
        now = self.get(name)
        try:
            return now, (self.directory / f"{name}{NEXT}").read_text()
        except OSError:
            return (now,)

    def files(self, names: Iterable[str]) -> dict[str, str]:
        """What a service finds: secrets by name, with NAME.next while it is being rotated."""
        found = {}
        for name in names:
            for suffix, text in zip(("", NEXT), self.valid(name), strict=False):
                found[f"{name}{suffix}"] = text
        return found

    def remember(self, names: Iterable[str]) -> None:
        """Reads those that there are, for `restore`."""
        for name in names:
            with contextlib.suppress(ResourceError):
                self.get(name)

    def restore(self) -> None:
        """Writes back what we have read and somebody has deleted since: what runs has it."""
        for name, text in self._known.items():
            path = self.directory / name
            if not path.exists():
                self.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
                write_private(path, text)

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
