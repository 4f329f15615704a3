"""One look at many resources: what is dear to read is read once for all of them.

Observing changes nothing, so within one look the first reading serves everybody. Outside of
a look everything is read anew: no answer is ever older than the look that it belongs to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

_seen: ContextVar[dict[Hashable, Any] | None] = ContextVar("seen", default=None)


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """The block observes and changes nothing. Other tasks are not concerned. Within another
    look it is a part of that."""
    if _seen.get() is not None:
        yield
        return
    token = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(token)


def is_looking() -> bool:
    """Whether this is within a look."""
    return _seen.get() is not None


def once(key: Hashable, read: Callable[[], T]) -> T:
    """What `read` returns; within a look only the first call of a key reads."""
    seen = _seen.get()
    if seen is None:
        return read()
    if key not in seen:
        seen[key] = read()
    found: T = seen[key]
    return found
