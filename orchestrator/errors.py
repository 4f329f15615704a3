"""Every error that a person may see, with its exit code.

```
OrchestratorError            1    something went wrong at run time
├── SpecError                2    the stack file is wrong: file, line, path, what is allowed
├── UsageError               2    wrong flag, unknown node: nothing was changed
├── HostError                3    not root, tool missing, port taken; says the mend
├── BusyError                4    another run holds this lab: pid, since when
├── ResourceError            1    cannot <action> <resource>: <reason>
│   ├── TransientError       1    the same call may succeed soon
│   ├── ForeignError         1    something of that name exists and is not ours: never touched
│   ├── GateTimeoutError     1    did not become ready in time; last answer; last log lines
│   └── ProcessError         1    exited with a code or signal; last log lines
└── JournalError             1    a record is damaged (a torn last line is not an error)
```
An interrupted run ends with 130, a bug with 70.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BUG = 70  # EX_SOFTWARE of sysexits.h
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class OrchestratorError(Exception):
    """Base of all; `.exit_code` is what the process ends with."""

    exit_code = 1


class Problem(NamedTuple):
    """One thing that is wrong in a stack file: where, and what to do about it."""

    path: str
    line: int
    message: str


class SpecError(OrchestratorError):
    """The stack file is wrong; every problem found is listed."""

    exit_code = 2

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        lines = [
            f"{file}:{problem.line}: {problem.path}: {problem.message}" for problem in problems
        ]
        super().__init__("\n".join(lines))
        self.file, self.problems = file, tuple(problems)


class UsageError(OrchestratorError):
    """The command line asks for something that does not exist; nothing was changed."""

    exit_code = 2


class HostError(OrchestratorError):
    """This host cannot do what was asked; `mend` says how to make it."""

    exit_code = 3

    def __init__(self, reason: str, *, mend: str = "") -> None:
        super().__init__(f"{reason}\n  mend: {mend}" if mend else reason)
        self.reason, self.mend = reason, mend


class BusyError(OrchestratorError):
    """Another run holds this lab's lock."""

    exit_code = 4


class ResourceError(OrchestratorError):
    """The world refused what was asked of one resource."""

    def __init__(self, resource: str, action: str, reason: str) -> None:
        super().__init__(f"cannot {action} {resource}: {reason}")
        self.resource, self.action, self.reason = resource, action, reason


class TransientError(ResourceError):
    """The same call may succeed soon; worth another attempt."""


class ForeignError(ResourceError):
    """Something of that name exists and belongs to somebody else; it was not touched."""


class ProcessError(ResourceError):
    """A process ended when it should not have; `log` holds its last lines."""

    def __init__(self, resource: str, action: str, reason: str, *, log: Sequence[str] = ()) -> None:
        super().__init__(resource, action, reason)
        self.log = tuple(log)


class GateTimeoutError(ProcessError):
    """A readiness gate stayed shut until the deadline."""


class JournalError(OrchestratorError):
    """The journal is damaged in the middle."""
