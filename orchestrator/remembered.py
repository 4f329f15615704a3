"""What a lab's templates came to when they were last rendered: to load jinja2 takes longer than all
else before a start's first program runs.

An entry holds as long as everything that it was made from is as it was: the stack file, this
program and its packages (known.py), the templates' texts, what they asked for of secrets and files.
It lies beside the lab's secrets and is root's alone as they are, since some of them stand in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.errors import OrchestratorError
from orchestrator.processes.files import write_private
from orchestrator.regular import read_text

MAX_BYTES = 20_000_000  # of the file: rendered texts of a thousand services


class Entry(Struct, frozen=True):
    """One process's files."""

    key: str  # of what they were made from, besides:
    secrets: Mapping[str, str]  # that were asked for, and digests of their texts
    exists: Mapping[str, bool]  # files of this host that were asked for
    texts: Mapping[str, str]  # by their path


class Kept(Struct, frozen=True):
    """The file. Of another basis nothing holds."""

    basis: str
    entries: dict[str, Entry]


class Remembered:
    """Entries by label, read when they are first asked for."""

    def __init__(self, path: Path, basis: str) -> None:
        """`basis` changes with the stack file and with this program."""
        self._path, self._basis = path, basis
        self._draft = path.with_name(f".{path.name}.new")
        self._entries: dict[str, Entry] | None = None
        self._is_changed = False

    def texts(
        self,
        label: str,
        made_from: object,
        *,
        secret: Callable[[str], str],
        exists: Callable[[str], bool],
        render: Callable[[Callable[[str], str], Callable[[str], bool]], dict[str, str]],
    ) -> dict[str, str]:
        """What is remembered, or else what `render` gives with the two functions that it gets."""
        entries, key = self._read(), _digest(json.dumps(made_from))
        known = entries.get(label)
        if known is not None and known.key == key and _holds(known, secret, exists):
            return dict(known.texts)
        secrets: dict[str, str] = {}
        files: dict[str, bool] = {}

        def noted_secret(name: str) -> str:
            text = secret(name)
            secrets[name] = _digest(text)
            return text

        def noted_exists(path: str) -> bool:
            files[path] = exists(path)
            return files[path]

        made = render(noted_secret, noted_exists)
        entries[label] = Entry(key, secrets, files, made)
        self._is_changed = True
        return made

    def keep(self) -> None:
        """For the commands that follow. Never raises OSError: they render anew."""
        if not self._is_changed:
            return
        with contextlib.suppress(OSError):
            kept = Kept(self._basis, self._read())
            write_private(self._draft, msgspec.json.encode(kept).decode())
            self._draft.rename(self._path)
            self._is_changed = False

    def forget(self) -> None:
        """Before secrets become old ones."""
        self._entries, self._is_changed = {}, False
        for path in (self._path, self._draft):  # a killed `keep` may have left one
            path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Entry]:
        if self._entries is None:
            self._entries = {}
            # Not text, not JSON and of another shape are all ValueErrors.
            with contextlib.suppress(OSError, ValueError, RecursionError):
                text = read_text(self._path, limit=MAX_BYTES)
                kept = msgspec.json.decode(text, type=Kept)
                self._entries = kept.entries if kept.basis == self._basis else {}
        return self._entries


def _holds(known: Entry, secret: Callable[[str], str], exists: Callable[[str], bool]) -> bool:
    try:
        return all(_digest(secret(name)) == text for name, text in known.secrets.items()) and all(
            exists(path) == there for path, there in known.exists.items()
        )
    except OrchestratorError:
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
