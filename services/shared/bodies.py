"""JSON that can be read in one way only: no key twice (RFC 8259, section 4, leaves open which
one counts, so whoever checks a request and whoever serves it could read two different ones)."""

from __future__ import annotations

import json
from typing import Any

from shared.problem import Problem


def unambiguous(body: bytes) -> bytes:
    """The body, of a bounded size. Raises Problem 400."""
    if not body.strip():
        raise Problem(400, "the body is empty")
    try:
        _READER.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the body is not JSON") from error
    return body


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise Problem(400, f"the body has the key {key[:60]!r} more than once")
        seen.add(key)


def _unread(_: str) -> None:
    """Whether a number is one that is wanted says the model; thousands of digits are no matter."""


_READER = json.JSONDecoder(object_pairs_hook=_once, parse_int=_unread, parse_float=_unread)
