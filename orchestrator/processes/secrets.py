"""Secrets of a lab: made at first start, readable by root alone, and exchanged for new ones.

A copy lies beside what runs, for as long as that does: what runs has them, so one that somebody
deleted must come back as it was.

While a secret NAME is exchanged, NAME.next lies beside it, and `.rotation` tells how far that has
come, so that whoever comes next after a crash can go on. It tells of lost ones, too, for as long as
their servers may not know what was made in their place.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import OrchestratorError, ResourceError
from orchestrator.processes.files import write_private

SECRET_BYTES = 24  # 192 bits, 32 characters of base64
NEXT = ".next"
STATE = ".rotation"
DRAFT = "~"


class Phase(StrEnum):
    """How far a rotation is: servers learn the next secrets; then they forget the old ones."""

    ACCEPT = "accept"
    RETIRE = "retire"


class Rotation(Struct, frozen=True):
    """One that is under way."""

    phase: Phase
    names: tuple[str, ...]
    lost: tuple[str, ...] = ()  # those of which a server may have another than there is


class Secrets:
    """Random passwords, mode 0600 in directories of root's alone."""

    def __init__(self, directory: Path, copies: Path) -> None:
        self.directory, self.copies = directory, copies

    def ensure(self, names: Iterable[str], *, is_new: bool) -> list[str]:
        """Makes those that do not exist and have no copy. Each appears whole or not at all.

        Returns them, unless the lab `is_new`: else servers may know what they were, and a
        rotation of them is under way from then on, in its second phase, of what is `lost`.
        """
        self.bring_back()
        missing = self.missing(names)
        begun = self.rotation() or Rotation(Phase.RETIRE, ())
        # What a server has taken already, it may know alone.
        taken = begun.names if begun.phase is Phase.ACCEPT else ()
        gone = [name for name in taken if not (self.directory / f"{name}{NEXT}").exists()]
        if (missing or gone) and not is_new:
            lost = dict.fromkeys((*begun.lost, *missing, *gone))
            known = dict.fromkeys((*begun.names, *lost))
            self._remember(Rotation(begun.phase, (*known,), (*lost,)))
        for name in missing:
            self._put(name, secrets.token_urlsafe(SECRET_BYTES))
        self._copy()
        return [] if is_new else missing

    def refuse_lost(self, names: Iterable[str]) -> None:
        """Raises OrchestratorError if any is lost: what has it could neither go on nor start."""
        begun = self.rotation()
        if lost := dict.fromkeys((*self.missing(names), *(begun.lost if begun else ()))):
            raise OrchestratorError(
                f"secrets were lost, and those who have them must learn new ones: {', '.join(lost)}"
                "\n  mend: `orchestrator up`"
            )

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those that were never made, or that somebody deleted."""
        return [name for name in names if not (self.directory / name).exists()]

    def bring_back(self) -> None:
        """Whatever somebody deleted and has a copy."""
        self.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        for copy in _files(self.copies):
            if not (self.directory / copy.name).exists() and (text := _read(copy)):
                self._put(copy.name, text)

    def _copy(self) -> None:
        """The copies are what there is. A crash before this leaves what was so a moment ago,
        which is no harm: each step of a rotation may be repeated."""
        self.copies.mkdir(parents=True, mode=0o700, exist_ok=True)
        kept = {each.name: _read(each) for each in _files(self.directory)}
        for copy in _files(self.copies):
            if copy.name not in kept:
                copy.unlink()
        for name, text in kept.items():
            if text is not None and _read(self.copies / name) != text:
                draft = self.copies / f"{name}{DRAFT}"
                write_private(draft, text)
                draft.rename(self.copies / name)

    def get(self, name: str) -> str:
        """The secret's text. Raises ResourceError if it was not made yet."""
        try:
            return (self.directory / name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ResourceError(f"secret:{name}", "read", str(error)) from error

    def known(self, name: str) -> tuple[str, ...]:
        """As `valid`, and from the copies where that is all there is; nothing if both are gone."""
        places = (self.directory, self.copies)
        texts = (
            next((text for place in places if (text := _read(place / each))), None)
            for each in (name, f"{name}{NEXT}")
        )
        return tuple(text for text in texts if text)

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
            head, *rest = (self.directory / STATE).read_text().splitlines()
            phase, *names = head.split()
            return Rotation(Phase(phase), tuple(names), tuple(" ".join(rest).split()))
        except (OSError, ValueError):  # with its state lost, it began with these
            found = [each.name for each in _files(self.directory)]
            begun = tuple(name.removesuffix(NEXT) for name in found if name.endswith(NEXT))
            return Rotation(Phase.ACCEPT, begun) if begun else None

    def begin(self, names: Iterable[str]) -> Rotation:
        """Makes the next secrets, and remembers that they are to be exchanged."""
        chosen = tuple(names)
        for name in chosen:
            self._put(f"{name}{NEXT}", secrets.token_urlsafe(SECRET_BYTES))
        begun = Rotation(Phase.ACCEPT, chosen)
        self._remember(begun)
        self._copy()
        return begun

    def exchange(self, rotation: Rotation) -> None:
        """The next ones become the present ones, as far as they are not yet."""
        self._remember(Rotation(Phase.RETIRE, rotation.names))
        for name in rotation.names:
            following = self.directory / f"{name}{NEXT}"
            if following.exists():
                following.rename(self.directory / name)
        self._sync()
        self._copy()

    def end(self) -> None:
        (self.directory / STATE).unlink(missing_ok=True)
        self._copy()

    def _remember(self, rotation: Rotation) -> None:
        lines = (" ".join((rotation.phase, *rotation.names)), " ".join(rotation.lost))
        self._put(STATE, "\n".join(lines))

    def _put(self, name: str, text: str) -> None:
        draft = self.directory / f"{name}{DRAFT}"
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
    """None if it is not there, or nothing that we have written."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _files(directory: Path) -> list[Path]:
    """Without drafts, which a crash may have left, and without what is no file; none if it
    cannot be looked into."""
    try:
        inside = sorted(directory.iterdir())
    except OSError:
        return []
    return [each for each in inside if each.is_file() and not each.name.endswith(DRAFT)]
