"""One look at the lab, as raw as the kernel gives it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from orchestrator.kernel.linkstats import LinkCounters
from orchestrator.kernel.rulecounters import RuleCounter
from orchestrator.kernel.sockdiag import Socket
from orchestrator.processes.usage import Usage


class Space(Struct, frozen=True):
    """One network namespace; the inode tells it from a later one of its name."""

    inode: int
    sockets: Sequence[Socket] = ()
    links: Mapping[str, LinkCounters] = field(default_factory=dict)


class Sample(Struct, frozen=True):
    """What could be read; what could not is missing, which is no error."""

    spaces: Mapping[str, Space] = field(default_factory=dict)
    usage: Mapping[str, Usage] = field(default_factory=dict)  # by hop
    rules: Sequence[RuleCounter] | None = None
    conntrack: tuple[int, int] | None = None  # entries, limit
