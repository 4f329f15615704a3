"""The one protocol of everything we own, kernel object or process, and its laws.

1. `ensure` is idempotent: after it `observe` is present, and a second call is `unchanged`.
2. `remove` is idempotent and needs no memory: it works in a new process after a crash.
3. Every partial state can be completed by `ensure` and taken away by `remove`.
4. What is foreign is neither changed nor removed.
5. `observe` tells the truth: it reads the world, never a cache, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any, Protocol, cast, runtime_checkable

from msgspec import Struct

from orchestrator.events import Event, Outcome

Emit = Callable[[Event], None]


class State(StrEnum):
    """What is there now."""

    ABSENT = "absent"
    PARTIAL = "partial"
    PRESENT = "present"
    FOREIGN = "foreign"


class Observation(Struct, frozen=True):
    """A state and, where it is not as wanted, the difference in words."""

    state: State
    detail: str = ""


class Resource(Protocol):
    """One thing we own: knows how to look at it, bring it about and take it away."""

    @property
    def name(self) -> str: ...

    async def observe(self) -> Observation: ...

    async def ensure(self) -> Outcome: ...

    async def remove(self) -> Outcome: ...


@runtime_checkable
class Rebuildable(Protocol):
    """A resource that can be made anew while something of it lives on, e.g. its socket."""

    async def rebuild(self) -> Outcome: ...


@runtime_checkable
class FromNothing(Protocol):
    """A resource that can do without the look that `ensure` begins with, where `observe` has said
    just now, in the same turn of the loop, that nothing of it is there."""

    async def ensure_from_nothing(self) -> Outcome: ...


@runtime_checkable
class Traced(Protocol):
    """A resource that can say at less cost than `observe` that nothing of it is there."""

    async def is_absent(self) -> bool: ...


@cache
def _can(kind: type[Any], what: type[Any]) -> bool:
    """Whether resources of that class are also the other: asked of a protocol it is looked up name
    by name, which takes as long as a system call."""
    return issubclass(kind, what)


async def is_absent(resource: Resource) -> bool:
    """Whether there is nothing to remove."""
    if _can(type(resource), Traced):
        return await cast("Traced", resource).is_absent()
    return (await resource.observe()).state is State.ABSENT


async def ensure(resource: Resource, seen: State) -> Outcome:
    """Brings it about; `seen` is what `observe` has said just now."""
    if seen is State.ABSENT and _can(type(resource), FromNothing):
        return await cast("FromNothing", resource).ensure_from_nothing()
    return await resource.ensure()


async def rebuild(resource: Resource) -> Outcome:
    """Takes the resource away and brings it about again."""
    if _can(type(resource), Rebuildable):
        return await cast("Rebuildable", resource).rebuild()
    await resource.remove()
    await resource.ensure()
    return Outcome.CHANGED


class Gate(Protocol):
    """Stays shut until the resource behind it proves, by its protocol, that it works."""

    async def wait_for(self) -> None:
        """Returns when it is open. Raises ProcessError if what it waits for has died."""
        ...

    def last_answer(self) -> str:
        """The last probe's answer, for the error message; empty if none was asked."""
        ...

    def log_lines(self) -> tuple[str, ...]:
        """The last lines that the process behind it wrote."""
        ...
