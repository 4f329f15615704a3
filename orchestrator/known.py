"""What reading a stack file came to, kept for the commands that follow.

Reading it by its models, and its templates by jinja2, takes longer to load and to do than all else
before the first change. `prepare` and the supervisor keep the outcome beside what they prepare, by
the same rules (processes/prepared.py): a file of root's alone, named by what it was made from and
what is in it. That is the stack file's text, this program, its Python and its packages; whatever
of them is another one, the file is read anew. Only what was valid is kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from orchestrator.processes import prepared
from orchestrator.processes.prepared import Store
from orchestrator.spec import Stack

MAX_BYTES = 1_000_000  # of a stack file: 1,000 services take about 400 kB
DIRECTORY = "stacks"  # below the one of what is prepared
# Beside our own plain values these are all that a stack holds.
FOREIGN = {("ipaddress", "IPv4Address"), ("ipaddress", "IPv4Interface")}
OWN = {("orchestrator.known", "Known"), ("orchestrator.known", "Sound")}
OWN |= {("orchestrator.spec", "Condition")}


class Sound(Struct, frozen=True):
    """What templates were rendered with, without a fault."""

    left_out: tuple[str, ...]  # services that this host could not run
    texts: frozenset[str]  # digests of the templates' texts
    files: Mapping[str, bool]  # what they asked for of this host, and whether it was there


class Known(Struct, frozen=True):
    """A stack, and what is known of its templates: of none if it was read just now."""

    stack: Stack
    compiled: Mapping[str, bytes] = field(default_factory=dict)  # by the digests of their texts
    sound: Sound | None = None


def look(text: str, cache_root: Path) -> Known | None:
    """What is known of the text; None if nothing is, or nothing that can be trusted."""
    try:
        descriptor, _ = _store(cache_root).open(key_of(text))
    except OSError:
        return None
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read()
    try:
        found = _Reader(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, AttributeError, EOFError, TypeError):
        return None
    return found if isinstance(found, Known) else None


def read(text: str, file: str, cache_root: Path | None) -> Known:
    """What is known of the text, or comes of reading it now. Raises SpecError."""
    if cache_root is not None and (found := look(text, cache_root)) is not None:
        return found
    from orchestrator.stackfile import parse_stack  # dear to load

    return Known(parse_stack(text, file))


def keep(text: str, known: Known, cache_root: Path) -> Path | None:
    """Where it is now; None while another process writes. Raises RefusedError, OSError."""
    cache_root.mkdir(mode=prepared.DIRECTORY_MODE, parents=True, exist_ok=True)
    store = _store(cache_root)
    with store.writing() as directory:
        if directory is None:
            return None
        draft = prepared.draft(directory)
        try:
            with os.fdopen(os.dup(draft), "wb") as file:
                file.write(pickle.dumps(known))
            return store.directory / prepared.publish(directory, key_of(text), draft)
        finally:
            os.close(draft)


def key_of(text: str) -> str:
    """Changes with whatever could make reading the text come to something else."""
    packages = [_time(Path(each)) for each in sys.path if each.endswith("-packages")]
    parts = [text, sys.version, _modules(), packages]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _modules() -> list[tuple[str, int, int]]:
    """Our own by size and time."""
    with os.scandir(Path(__file__).parent) as entries:
        seen = [(each.name, each.stat()) for each in entries if each.name.endswith(".py")]
    return sorted((name, of.st_size, of.st_mtime_ns) for name, of in seen)


def _time(packages: Path) -> tuple[str, int]:
    """Of the directory: another one once a package was installed, replaced or taken away."""
    return str(packages), packages.stat().st_mtime_ns if packages.is_dir() else 0


def _store(cache_root: Path) -> Store:
    return Store(cache_root / DIRECTORY)


class _Reader(pickle.Unpickler):
    """Makes values of a stack and nothing else, whatever is in the file."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if module == "orchestrator.spec" else None
        if isinstance(found, type) and issubclass(found, Struct):
            return found
        if (module, name) in FOREIGN | OWN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a stack")
