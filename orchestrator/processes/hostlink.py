"""Resource: a link on the host to a service's rendered file, for people to look at."""

from __future__ import annotations

import contextlib
from pathlib import Path

from msgspec import Struct

from orchestrator.events import Noticed, Outcome
from orchestrator.resource import Emit, Observation, State


class HostLink(Struct, frozen=True):
    """`path` on the host points to `target` below our run directory.

    A file of somebody else's at that path is left alone and told of: the link is a
    convenience, and no reason to fail. `memory` tells that we made its directory.
    """

    path: Path
    target: Path
    memory: Path
    emit: Emit

    @property
    def name(self) -> str:
        return f"link:{self.path}"

    async def observe(self) -> Observation:
        if self._is_ours():
            if self.path.readlink() == self.target:
                return Observation(State.PRESENT)
            return Observation(State.PARTIAL, f"{self.path} points to an earlier file")
        if self.path.is_symlink() or self.path.exists():
            return Observation(State.FOREIGN, f"{self.path} is somebody else's file")
        if self.memory.exists():
            return Observation(State.PARTIAL, f"{self.path} is missing")
        return Observation(State.ABSENT)

    def _is_ours(self) -> bool:
        """Whether it points into the node's own directory."""
        return self.path.is_symlink() and self.path.readlink().parent == self.target.parent

    async def ensure(self) -> Outcome:
        seen = await self.observe()
        if seen.state is State.FOREIGN:
            self.emit(Noticed(self.name, f"{seen.detail}; it was left as it is"))
        if seen.state in (State.FOREIGN, State.PRESENT):
            return Outcome.UNCHANGED
        if not self.path.parent.exists():
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            self.memory.touch()
            self.path.parent.mkdir(mode=0o755)
        if self._is_ours():
            self.path.unlink()
        self.path.symlink_to(self.target)
        return Outcome.CHANGED

    async def remove(self) -> Outcome:
        is_ours = self._is_ours()
        if is_ours:
            self.path.unlink()
        if self.memory.exists():
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()
            self.memory.unlink()
        return Outcome.CHANGED if is_ours else Outcome.UNCHANGED
