"""Types of fields that bodies and queries have in common."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, StringConstraints

DIGITS = re.compile(r"[0-9]{1,19}")


def _whole(value: Any) -> Any:
    """To JSON 2 and 2.0 are the same number."""
    return int(value) if type(value) is float and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]


def _digits(value: Any) -> Any:
    """int() also takes 1_0, +1 and digits of other scripts."""
    if isinstance(value, str) and not DIGITS.fullmatch(value):
        raise ValueError("only digits are allowed")
    return value


Digits = Annotated[int, BeforeValidator(_digits)]  # of a query, where all is text


def _as_text(value: Any) -> Any:
    """Customers are numbers to some clients and names to others; to us they are text."""
    return str(value) if type(value) is int else value


CustomerId = Annotated[
    str,
    # These first: of what a validator gives pydantic says "items", not "characters".
    StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.@-]+$"),
    BeforeValidator(_as_text),
]
