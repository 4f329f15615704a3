"""jinja2, which takes a tenth of the time of a start to load: only where something is rendered."""

from __future__ import annotations

import contextlib
import marshal
import sys
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

# The sandbox bounds a single range, not loops within loops. A configuration file takes
# milliseconds and is some kilobytes long.
LIMIT_S = 3.0  # of this thread's processor time, so that a busy machine makes no difference
LIMIT_CHARACTERS = 10_000_000
STEPS_BETWEEN = 256  # looks at the clock

ENVIRONMENT = SandboxedEnvironment(
    autoescape=False,  # configuration files, no HTML
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)


def fault(text: str) -> str:
    """What is wrong with a template's syntax; empty if nothing is."""
    try:
        _template(text)
    except jinja2.TemplateSyntaxError as error:
        return str(error)
    return ""


def compiled(text: str) -> bytes:
    """What `render` takes in place of parsing the text, for this Python and this jinja2 only."""
    code: CodeType = ENVIRONMENT.compile(text)
    return marshal.dumps(code)


def render(text: str, context: Mapping[str, object], code: bytes | None) -> str:
    """The text with its values; `code` is what `compiled` made of it. Raises whatever a template
    and its context can, and EndlessError."""
    template = _template(text, code)
    parts, length = [], 0
    with _limited(LIMIT_S):
        for part in template.generate(context):
            length += len(part)
            if length > LIMIT_CHARACTERS:
                raise EndlessError(f"it makes more than {LIMIT_CHARACTERS:,} characters")
            parts.append(part)
    return "".join(parts)


class EndlessError(Exception):
    """A template does more work than any configuration file takes."""


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises EndlessError from the template's own code once it has taken that long.

    A template's code is Python, and a loop without output never comes back to us: so it is traced
    line by line, which works in any thread. Code of others is not.
    """
    ends, steps = time.thread_time() + seconds, 0

    def line(_: FrameType, __: str, ___: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps % STEPS_BETWEEN == 0 and time.thread_time() > ends:
            raise EndlessError(f"it takes more than {seconds:g} s of processor time")
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        is_template = frame.f_code.co_filename == "<template>"
        return line(frame, event, argument) if is_template else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)


@lru_cache
def _template(text: str, code: bytes | None = None) -> jinja2.Template:
    """Each text once: it is rendered with and without secrets. Raises TemplateSyntaxError."""
    if code is None:
        return ENVIRONMENT.from_string(text)
    made = marshal.loads(code)
    return jinja2.Template.from_code(ENVIRONMENT, made, ENVIRONMENT.make_globals(None))
