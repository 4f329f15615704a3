"""What is there now, node by node: the observation, with what the journal remembers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct, to_builtins

from orchestrator import pagenote, resident
from orchestrator.app import App
from orchestrator.lock import is_held
from orchestrator.onelook import one_look
from orchestrator.processes import procfs
from orchestrator.processes.liveness import LIVENESS_TIMEOUT_S
from orchestrator.resource import Observation, State
from orchestrator.sights import journal
from orchestrator.sights.history import NodeHistory, nodes

SILENT = f"no answer to the host within {LIVENESS_TIMEOUT_S:g} s; see `orchestrator why`"


class NodeStatus(Struct, frozen=True):
    """One node now: what is observed, with what the journal remembers."""

    node: str
    layer: str
    state: str
    pid: int | None
    address: str | None
    uptime_s: float | None
    restarts: int
    ready_after_s: float | None
    last_error: str
    detail: str


def node_status(
    app: App,
    name: str,
    seen: Observation,
    past: NodeHistory,
    *,
    busy: bool,
    well: Collection[str],
    is_silent: bool = False,
) -> NodeStatus:
    """Observation wins over memory: the journal only tells how it came about, and, while a
    run is on (`busy`), how far it is. A run that was killed stays half-way in the journal.

    What a check found is of the past, and says nothing of now where not all that it needs is
    `well`. What is as wanted and silent may have much to do, or something is in the way.
    """
    kind, _, short = name.partition(":")
    pid, uptime_s, address = None, None, None
    if kind == "service":
        running = procfs.sandboxes(f"{app.lab.mark}/{name}")
        for each in running:
            if each.is_init:
                pid = next(iter(procfs.children(each.pid)), each.pid)
                uptime_s = round(procfs.uptime_s(each.start_ticks), 1)
        address = str(app.stack.address_of(short))
    in_run = busy and past.state in ("queued", "starting", "probing", "backoff", "stopping")
    if seen.state is State.PRESENT:
        state = past.state if in_run else "ready"
        if kind == "check" and not (
            past.state in ("ready", "failed") and app.nodes[name].needs.keys() <= {*well}
        ):
            state = "unknown"
    elif seen.state is State.ABSENT:
        state = past.state if past.state in ("failed", "skipped") or in_run else "down"
    else:
        state = "drifted" if seen.state is State.PARTIAL else "foreign"
    detail = seen.detail if state in ("drifted", "foreign") else ""
    return NodeStatus(
        node=name,
        layer=app.nodes[name].layer,
        state=state,
        pid=pid,
        address=address,
        uptime_s=uptime_s,
        restarts=past.restarts,
        ready_after_s=None if past.ready_after_s is None else round(past.ready_after_s, 3),
        last_error=past.last_error,
        detail=SILENT if state == "ready" and is_silent else detail,
    )


class Status(Struct, frozen=True):
    """The lab as `status` shows it."""

    lab: str
    supervisor: int | None  # its pid
    page: str  # where the live page is, or why it is not; empty without a supervisor
    nodes: list[NodeStatus]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = to_builtins(self)
        return found


async def look(app: App) -> Status:
    """Observes every node, asks every service whether it answers. Raises HostError."""
    observed = await app.observe()
    there = [name for name, seen in observed.items() if seen.state is State.PRESENT]
    return status_of(app, observed, await app.silent(there))


def status_of(
    app: App, observed: Mapping[str, Observation], silent: Collection[str] = ()
) -> Status:
    """Reads the journal."""
    busy = is_held(app.lab)
    past = nodes(journal.read(app.lab.journal).records)
    present = resident.find(app.lab)
    well = {name for name, seen in observed.items() if seen.state is State.PRESENT} - {*silent}

    def row(name: str, seen: Observation) -> NodeStatus:
        history, is_silent = past.get(name, NodeHistory()), name in silent
        return node_status(app, name, seen, history, busy=busy, well=well, is_silent=is_silent)

    with one_look():
        rows = [row(name, seen) for name, seen in observed.items()]
    pid = present.pid if present else None
    return Status(app.lab.name, pid, pagenote.read(app.lab, pid), rows)
