"""Where files are and which lab a stack file means, by a glance at it.

Light, as is all that `status` and `replay` load before they ask the supervisor: pathlib, typing
or json take longer to load than the supervisor takes to answer.
"""

from __future__ import annotations

import os

try:
    from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11; hashlib is heavy
except ImportError:
    from hashlib import sha256

STATE_ROOT, RUN_ROOT = "/var/lib/orchestrator", "/run/orchestrator"
CACHE_ROOT = "/var/cache/orchestrator"  # of this machine, not of a lab
DEFAULT_STACK = "services/stack.yaml"
# Of the checkout that this runs from.
OWN_STACK = os.path.join(os.path.dirname(os.path.dirname(__file__)), DEFAULT_STACK)
# It becomes a part of file names, of rules' comments and of lines for iptables-restore.
LETTERS_OF_A_NAME = b"abcdefghijklmnopqrstuvwxyz0123456789-"


def stack_file(given: str | None) -> str:
    """The one that is meant."""
    return given or (DEFAULT_STACK if os.path.exists(DEFAULT_STACK) else OWN_STACK)


def digest_of(text: bytes) -> str:
    """What tells a stack file from another."""
    return str(sha256(text).hexdigest()[:16])


def known(path: str) -> tuple[str, str] | None:
    """The name and digest of the stack in that file; None if a glance does not tell. Raises
    OSError."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        text = file.read()
    for line in text.split(b"\n"):
        name = line[5:].strip(b" ")
        if line.startswith(b"name:") and name and not name.strip(LETTERS_OF_A_NAME):
            return name.decode(), digest_of(text)
    return None


def lab_of(stack: str, host: str) -> str:
    """The name of a stack's lab on a host, a network namespace or the root one (empty)."""
    return f"{stack}@{host}" if host else stack
