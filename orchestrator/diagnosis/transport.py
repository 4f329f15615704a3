"""Verdicts from TCP upwards: SYN, listener and process, answers by protocol, jobs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from orchestrator.diagnosis.findings import Finding, Verdict
from orchestrator.diagnosis.network import Shell
from orchestrator.kernel.listening import Listening
from orchestrator.processes.probes import Answer
from orchestrator.resource import Observation, State
from orchestrator.terminal import counted

STOPPED = frozenset("Tt")  # proc_pid_stat(5): stopped by a signal, or by a tracer
CHANGED = "its configuration has changed"  # Service.observe: it runs, but not as wanted


class Outcome(StrEnum):
    """How an attempt to connect ended."""

    CONNECTED = "connected"
    REFUSED = "refused"
    SILENT = "no answer"
    UNREACHABLE = "unreachable"


class Attempt(Struct, frozen=True):
    """One real connection, tried from one caller's namespace."""

    caller: str
    namespace: str  # in /run/netns; empty: the host
    node: str  # to blame where this caller alone does not get through
    address: str
    port: int
    outcome: Outcome
    text: str
    redirected: bool = False  # by a published port: a refusal may come from the host itself

    @property
    def answered(self) -> bool:
        """Somebody answered, if only to refuse: packets go there and come back."""
        return self.outcome in (Outcome.CONNECTED, Outcome.REFUSED)


class Member(Struct, frozen=True):
    """One process of a service: descriptors in use, and how many it may have."""

    pid: int
    name: str
    state: str
    descriptors: int
    limit: int


class Running(Struct, frozen=True):
    """A service's program with all below it; `members` is empty where nothing runs.

    `full` are file systems of its data without room; `log` its last lines, `last_error` what
    the journal remembers.
    """

    observed: Observation
    members: tuple[Member, ...]
    sockets: tuple[Listening, ...]
    full: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    last_error: str = ""


def syn(
    node: str, attempts: Sequence[Attempt], sockets: Sequence[Listening], shell: Shell
) -> Finding:
    """A real connection from every caller is answered; a refusal is an answer too, if nobody
    listens: then the network has done its work."""
    full = {each.port for each in sockets if each.is_full}
    connected = any(e.outcome is Outcome.CONNECTED and not e.redirected for e in attempts)
    bad = [
        each
        for each in attempts
        if not each.answered
        or (
            each.outcome is Outcome.REFUSED
            and (
                connected
                if each.redirected
                else any(each.port == s.port and s.serves(each.address) for s in sockets)
            )
        )
    ]
    queued = [each for each in bad if each.outcome is Outcome.SILENT and each.port in full]
    if queued:
        text = f"{queued[0].address}:{queued[0].port} drops it: its accept queue is full"
        return Finding("syn", node, Verdict.SKIPPED, text)
    if bad:
        first = bad[0]
        text = f"from {first.caller} to {first.address}:{first.port}: {first.text}"
        if first.outcome is Outcome.REFUSED:
            text += ", though somebody listens"
        good = [each.caller for each in attempts if each not in bad]
        text += f"; answered from {', '.join(dict.fromkeys(good))}" if good else ""
        blamed = node if len(bad) == len(attempts) else first.node
        return Finding("syn", blamed, Verdict.BROKEN, text, _connect(first, shell))
    if not attempts:
        return Finding("syn", node, Verdict.SKIPPED, "nobody could be asked to connect")
    names = ", ".join(dict.fromkeys(each.caller for each in attempts))
    where = ", ".join(dict.fromkeys(f"{each.address}:{each.port}" for each in attempts))
    first = attempts[0]
    what = "refused at once" if first.outcome is Outcome.REFUSED else first.text
    text = f"{where}: {what}, asked by {names}"
    return Finding("syn", node, Verdict.OK, text, _connect(first, shell))


def _connect(attempt: Attempt, shell: Shell) -> str:
    words = f"bash -c '</dev/tcp/{attempt.address}/{attempt.port}'"
    return shell.run(f"timeout 3 {words}", attempt.namespace)


def listener(
    node: str, ports: Sequence[int], running: Running, namespace: str, shell: Shell
) -> Finding:
    """The process is there, runs, listens, and takes what comes in."""
    look = "ps -o pid,stat,wchan:20,args -p "
    sockets = shell.run("ss -ltn", namespace)

    def broken(text: str, command: str, log: tuple[str, ...] = ()) -> Finding:
        return Finding("listener", node, Verdict.BROKEN, text, command, log)

    seen = running.observed
    drifted = seen.state is State.PARTIAL and seen.detail == CHANGED
    if not running.members or (seen.state is not State.PRESENT and not drifted):
        text = seen.detail or "its process is gone"
        reasons = [f"{path} is full" for path in running.full]
        reasons += [running.last_error.split("\n")[0]] if running.last_error else []
        text += "".join(f"; {reason}" for reason in reasons)
        return broken(text, f"ip netns pids {namespace}", running.log)
    if stopped := [each for each in running.members if each.state in STOPPED]:
        listed = ", ".join(f"{each.name} ({each.pid})" for each in stopped)
        text = f"stopped by a signal: {listed}, state {stopped[0].state}"
        return broken(text, look + ",".join(str(each.pid) for each in stopped))
    for each in running.members:
        if each.descriptors >= each.limit:
            text = f"{each.name} ({each.pid}) has no file descriptor left"
            text += f": {each.descriptors} of {each.limit} in use"
            return broken(text, f"ls /proc/{each.pid}/fd | wc -l")
    for port in ports:
        there = [each for each in running.sockets if each.port == port]
        if not there:
            return broken(f"nobody listens on port {port}, though it runs", sockets)
        if all(each.is_local for each in there):
            return broken(f"port {port} is open on {there[0].address} alone", sockets)
        if any(each.is_full for each in there):
            queue = max(there, key=lambda each: each.waiting)
            text = f"the accept queue of port {port} is full: {queue.waiting} wait"
            return broken(f"{text}, {queue.backlog} may", sockets)
    main = running.members[0]
    look += str(main.pid)
    text = f"{main.name} ({main.pid}), {counted(len(running.members), 'process')}"
    for port in ports:
        queue = max((s for s in running.sockets if s.port == port), key=lambda s: s.waiting)
        text += f"; {queue.address}:{port}, {queue.waiting} of {queue.backlog} wait"
    if drifted:
        return Finding("listener", node, Verdict.DRIFT, f"{seen.detail}; {text}", look)
    return Finding("listener", node, Verdict.OK, text, sockets if ports else look)


def answer(node: str, layer: str, given: Answer | None, command: str, running: Running) -> Finding:
    """What the service's own probe said; None: it was not asked."""
    if given is None:
        text = "not asked, since something below is broken"
        return Finding(layer, node, Verdict.SKIPPED, text, command)
    if not given.passed:
        name = node.partition(":")[2]
        mend = f"orchestrator logs {name}; orchestrator replay {name}"
        return Finding(layer, node, Verdict.BROKEN, given.text, command, running.log, mend)
    if running.full and layer == "query":  # reading needs no room
        text = f"{given.text}, but {', '.join(running.full)} is full: it cannot write"
        return _without_room(node, text, running)
    return Finding(layer, node, Verdict.OK, given.text, command)


def room(node: str, running: Running) -> Finding | None:
    """For a service without a query: its data directory has no room."""
    if not running.full:
        return None
    text = f"{', '.join(running.full)} is full"
    return _without_room(node, text, running)


def _without_room(node: str, text: str, running: Running) -> Finding:
    command = f"df -h {running.full[0]}"
    return Finding("query", node, Verdict.BROKEN, text, command, running.log, "make room there")


def job(
    node: str,
    seen: Observation,
    *,
    needs_are_well: bool,
    is_missed: bool,
    log: Sequence[str],
    full: Sequence[str],
) -> Finding:
    """Done, or not. `is_missed`: something that needs it does not run; else it is only that
    the next `up` would do it again. `full`: what has no space left, each with its mend."""
    if seen.state is State.PRESENT:
        return Finding("job", node, Verdict.OK, "done")
    text = seen.detail or "not done"
    if not needs_are_well:
        return Finding("job", node, Verdict.SKIPPED, f"{text}, since a need of it is broken")
    verdict = Verdict.BROKEN if is_missed else Verdict.DRIFT
    mend = ""
    if full:
        what, _, mend = full[0].partition("\n  mend: ")
        text = f"{text}; {what}"
    return Finding("job", node, verdict, text, f"orchestrator logs {node}", tuple(log), mend)


def observed(layer: str, node: str, seen: Observation, is_well: str, command: str) -> Finding:
    """What the resource itself says: for layers that need no closer look."""
    if seen.state is State.PRESENT:
        return Finding(layer, node, Verdict.OK, is_well, command)
    text = seen.detail or "it is not there"
    return Finding(layer, node, Verdict.BROKEN, text, command)


def link(node: str, seen: Observation, command: str) -> Finding:
    """To a file for people to look at; somebody else's in its place is let be, as by `up`."""
    if seen.state is State.FOREIGN:
        return Finding("file", node, Verdict.OK, f"{seen.detail}, which is left as it is", command)
    return observed("file", node, seen, "points to the rendered file", command)
