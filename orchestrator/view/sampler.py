"""Takes a sample. Reads only; what vanishes while it reads is skipped."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from orchestrator.kernel import linkstats, sockdiag
from orchestrator.kernel.linkstats import LinkCounters
from orchestrator.kernel.sockdiag import Socket, State
from orchestrator.linux import inside
from orchestrator.processes.members import Members
from orchestrator.processes.procfs import read
from orchestrator.processes.usage import usage
from orchestrator.view.plan import Link, Plan
from orchestrator.view.sample import Sample, Space

SOCKSTAT = "/proc/thread-self/net/sockstat"  # this thread's namespace: proc_pid_net(5)
NETNS = "/proc/thread-self/ns/net"
CONNTRACK = Path("/proc/sys/net/netfilter")  # each network namespace has a table of its own
CONNTRACK_FILES = ("nf_conntrack_count", "nf_conntrack_max")
TIME_WAIT = re.compile(rb"^TCP:.* tw (\d+)", re.MULTILINE)

# A server that closes first collects them by the ten thousand, at 3 µs each to read. Beyond
# this number a namespace's others are read without them, and only about so many of them.
TIME_WAIT_LIMIT = 2_000
TIME_WAIT_BIT = 1 << State.TIME_WAIT


class Sampler:
    """Reads everything of the plan but the rules. Blocks: call it in a thread."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._members = {
            hop.name: Members(hop.program) for hop in plan.hops if hop.program is not None
        }

    def take(self) -> Sample:
        """Never raises for what is not there."""
        spaces, used = {}, {}
        for space, path in self._plan.paths.items():
            with contextlib.suppress(OSError):
                spaces[space] = read_space(path, self._plan.links.get(space, ()))
        for name, members in self._members.items():
            used[name] = usage(members.pids())
        return Sample(spaces=spaces, usage=used, conntrack=read_conntrack())


def read_space(path: Path, links: Iterable[Link]) -> Space:
    """One namespace. Raises OSError if it is gone.

    The sockets are opened anew each time (30 µs): one that stays open keeps its namespace,
    with the links in it, alive after everybody else has left.
    """
    with inside(path), contextlib.ExitStack() as opened:
        diag = opened.enter_context(sockdiag.open_channel())
        route = opened.enter_context(linkstats.open_channel())
        inode = os.stat(NETNS).st_ino  # noqa: PTH116 - the link's target, in this thread
        waiting = TIME_WAIT.search(read(SOCKSTAT))
        keep = opened.pop_all()
    with keep:
        counters: dict[str, LinkCounters] = {}
        for link in links:
            with contextlib.suppress(OSError):
                counters[link.name] = linkstats.counters(route, link.name)
        return Space(inode, read_sockets(diag, int(waiting[1]) if waiting else 0), counters)


def read_sockets(channel: socket.socket, time_waits: int) -> list[Socket]:
    """All sockets of the channel's namespace, of very many in TIME_WAIT only some."""
    if time_waits <= TIME_WAIT_LIMIT:
        return sockdiag.sockets(channel)
    found = sockdiag.sockets(channel, sockdiag.ALL & ~TIME_WAIT_BIT)
    return found + sockdiag.sockets(channel, TIME_WAIT_BIT, TIME_WAIT_LIMIT)


def read_conntrack() -> tuple[int, int] | None:
    """Entries and limit in this process's namespace; None where nothing tracks connections."""
    try:
        entries, limit = (int(read(f"{CONNTRACK}/{name}")) for name in CONNTRACK_FILES)
    except (OSError, ValueError):
        return None
    return entries, limit
