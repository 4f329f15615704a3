"""What can be seen without asking anybody: the kernel's state and the process table."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from orchestrator import linux
from orchestrator.app import App
from orchestrator.diagnosis.transport import Member, Running
from orchestrator.errors import OrchestratorError, ResourceError
from orchestrator.kernel import iptables, sysctl
from orchestrator.kernel.iptables import Tables
from orchestrator.kernel.listening import Listening, listening
from orchestrator.kernel.netlink import Snapshot
from orchestrator.kernel.veth import Veth
from orchestrator.processes import child, procfs
from orchestrator.processes.service import Program, Service
from orchestrator.resource import Observation, State
from orchestrator.sights import journal
from orchestrator.sights.history import nodes as histories

IP_FORWARD = "net.ipv4.ip_forward"
BRIDGED_RULES = "net.bridge.bridge-nf-call-iptables"
LOG_LINES = 3
NO_ROOM_BYTES = 64 << 10  # a few pages of a database


class Seen(Struct, frozen=True):
    """One look at everything that was asked for."""

    host: Snapshot
    inside: dict[str, Snapshot | None]  # by the namespace's short name; None: cannot be entered
    observed: dict[str, Observation]  # by node, but for veths
    settings: dict[str, str | None]
    tables: Tables | None
    tables_error: str
    running: dict[str, Running]  # by service node


async def look(app: App, nodes: Collection[str], places: dict[str, Path]) -> Seen:
    """Looks at these nodes and namespaces. Raises ResourceError if not even links can be read."""
    netlink = app.compiler.netlink
    observed = {}
    for name in nodes:
        resource = app.nodes[name].resource
        if not isinstance(resource, Veth):
            observed[name] = await observe(app, name)
    tables, error = None, ""
    if "nat:rules" in nodes:
        try:
            tables = await iptables.save()
        except OrchestratorError as failure:
            error = str(failure)
    past = histories(journal.read(app.lab.journal).records)
    running = {}
    for name in nodes:
        resource = app.nodes[name].resource
        if isinstance(resource, Service):
            remembered = past[name].last_error if name in past else ""
            running[name] = await linux.in_thread(
                look_at_process, resource.program, observed[name], remembered
            )
    bridges = [name.partition(":")[2] for name in nodes if name.startswith("bridge:")]
    keys = [IP_FORWARD, *(f"net.ipv4.conf.{each}.route_localnet" for each in bridges)]
    return Seen(
        host=netlink.snapshot(),
        inside={label: snapshot(app, path) for label, path in places.items()},
        observed=observed,
        settings={key: sysctl.read(key) for key in keys},
        tables=tables,
        tables_error=error,
        running=running,
    )


async def observe(app: App, name: str) -> Observation:
    """What the resource says; one that cannot be looked at is not as wanted."""
    try:
        return await app.nodes[name].resource.observe()
    except (OrchestratorError, OSError) as error:
        return Observation(State.PARTIAL, f"cannot be looked at: {error}")


def snapshot(app: App, path: Path) -> Snapshot | None:
    """None where there is no such namespace."""
    if not linux.is_namespace(path):
        return None
    try:
        return app.compiler.netlink.snapshot(path)
    except ResourceError:
        return None


def look_at_process(program: Program, observed: Observation, last_error: str) -> Running:
    """The program with all below it, its sockets, and the room for its data."""
    inits = [each for each in program.running() if each.is_init]
    pids = [pid for each in inits for pid in procfs.descendants(each.pid)]
    members = tuple(member for pid in pids if (member := _member(pid)))
    is_broken = observed.state is not State.PRESENT
    return Running(
        observed,
        members,
        tuple(_sockets(program.namespace)),
        tuple(_full(program, pids)),
        child.tail(program.log, lines=LOG_LINES),
        last_error if is_broken else "",
    )


def _member(pid: int) -> Member | None:
    seen = procfs.stat(pid)
    if seen is None:
        return None
    root = procfs.PROC / str(pid)
    try:
        name = (root / "comm").read_text().strip()
        limit = _descriptor_limit((root / "limits").read_text())
        used = sum(int(each) < limit for each in os.listdir(root / "fd"))  # noqa: PTH208
    except (OSError, ValueError):
        return None
    return Member(pid, name, seen.state, used, limit)


def _descriptor_limit(text: str) -> int:
    """The soft limit of proc_pid_limits(5); a number far off where there is none."""
    for line in text.splitlines():
        if line.startswith("Max open files"):
            word = line.split()[3]
            return int(word) if word.isdigit() else 1 << 62
    return 1 << 62


def _sockets(namespace: Path | None) -> list[Listening]:
    with suppress(ResourceError):
        return listening(namespace)
    return []


def _full(program: Program, pids: list[int]) -> list[str]:
    """Data directories without room for one who is not root, as the program sees them."""
    found = []
    for inside, outside in program.data.items():
        place = Path(f"/proc/{pids[0]}/root{inside}") if pids else outside
        with suppress(OSError):
            space = os.statvfs(place)
            if space.f_bavail * space.f_frsize < NO_ROOM_BYTES or (
                space.f_files and space.f_favail == 0
            ):
                found.append(str(outside))
    return found
