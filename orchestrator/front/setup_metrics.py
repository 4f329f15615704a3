"""Prometheus metrics of runs: what each node of `up`, `replay`, `heal` and `down` took.

Folded from the journal, so runs of any process count, those of before this one's start too.
The journal is read on when somebody scrapes: nobody looks, nothing is done.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path

from msgspec import Struct, field

from orchestrator.engine.plan import Node
from orchestrator.events import DriftFound, GateChecked, Record, RunFinished, RunStarted
from orchestrator.exposition import Buckets, Families, Family, Table
from orchestrator.linux import in_thread
from orchestrator.processes import procfs
from orchestrator.sights.history import NodeHistory, after
from orchestrator.sights.journal import Tail
from orchestrator.sights.phases import Phase
from orchestrator.sights.timings import RunTimes, times_of

OPERATIONS = ("up", "replay", "heal", "down")
STATES = (
    *("pending", "queued", "starting", "probing", "backoff", "ready"),
    *("failed", "skipped", "cancelled", "stopping", "stopped"),
)
ATTEMPTS = ("ok", "error", "timeout", "cancelled")
BOUNDS_S = (0.05, 0.25, 1, 5)
PROBE_BOUNDS_S = (0.001, 0.01, 0.1)
KILLED = "killed"
# What a step of a replay came to, by its outcome; whatever is not here diverged.
REPLAYED = {"changed": "matched", "unchanged": "matched", "skipped": "skipped"}

Key = tuple[str, ...]
Numbers = dict[Key, float]


class Durations(Struct):
    """Counts per bucket, and the sum in seconds."""

    bounds_s: tuple[float, ...] = BOUNDS_S
    counts: list[int] = field(default_factory=list)
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds_s) + 1)

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> Buckets:
        bounds = (*(f"{bound:g}" for bound in self.bounds_s), "+Inf")
        return Buckets(bounds, tuple(accumulate(self.counts)), self.sum_s)


class SetupMetrics:
    """The runs in a journal, for a graph of nodes."""

    def __init__(self, nodes: Mapping[str, Node], journal: Path, *, budget_s: float) -> None:
        self._nodes, self._budget_s = nodes, budget_s
        self._tail = Tail(journal)
        self._boot = procfs.boot_id()
        self._open: dict[str, list[Record]] = {}
        self._states = {name: NodeHistory() for name in nodes}
        self._last: dict[str, RunTimes] = {}
        self._shown: dict[str, RunTimes] = {}  # the last that changed something
        self._attempts: Numbers = {(n, each): 0.0 for n in nodes for each in ("ok", "error")}
        self._backoff_s: Numbers = {}  # seconds of nodes that ever had to
        self._drifts: Numbers = {(n.partition(":")[0],): 0.0 for n in nodes}
        self._probes: Numbers = {}
        self._probe_times: dict[Key, Durations] = {}
        self._replayed: Numbers = {(each,): 0.0 for each in ("matched", "diverged", "skipped")}
        self._replay_drift = Durations()
        self._steps: dict[Key, Durations] = {}
        self._runs: dict[Key, Durations] = {}
        self._told: list[tuple[Family, Table]] | None = None  # until there is something new

    async def refresh(self) -> None:
        """Takes in what the journal has more than before."""
        if self._tail.is_behind():
            await in_thread(self._read)

    def _read(self) -> None:
        is_more = True
        while is_more:
            records, is_more = self._tail.read()
            self.take(records)

    def take(self, records: Iterable[Record]) -> None:
        """Records in their order. Those of an earlier boot are another clock's."""
        for record in records:
            self._told = None
            event = record.event
            if isinstance(event, RunStarted):
                for run in list(self._open):  # one at a time: an open one was killed
                    self._close(run)
                if event.boot_id == self._boot:
                    self._open[record.run] = []
            if record.run not in self._open:
                continue
            self._open[record.run].append(record)
            name = getattr(event, "node", None)
            if name in self._states:
                self._states[name] = after(self._states[name], event, record.mono_ns)
            if isinstance(event, DriftFound):
                _add(self._drifts, (event.node.partition(":")[0],), 1)
            if isinstance(event, GateChecked) and event.took_ns:
                probe = (event.probe, "passed" if event.passed else "failed")
                times = self._probe_times.setdefault(probe, Durations(PROBE_BOUNDS_S))
                times.add(event.took_ns / 1e9)
            if isinstance(event, RunFinished):
                self._close(record.run)

    def _close(self, run: str) -> None:
        records = self._open.pop(run)
        try:
            found = times_of(records)
        except ValueError:
            return  # damaged beyond telling
        outcome = found.outcome or KILLED
        self._last[found.command] = found
        changed = [n for n in found.nodes.values() if n.outcome not in ("unchanged", "skipped", "")]
        if changed or found.command not in self._shown:
            self._shown[found.command] = found
        key = (found.command, outcome)
        self._runs.setdefault(key, Durations()).add(found.wall_ns / 1e9)
        for name, node in found.nodes.items():
            kind = name.partition(":")[0]
            for each, count in node.attempts.items():
                if each in ATTEMPTS:
                    _add(self._attempts, (name, each), count)
            for (probe, passed), count in node.probes.items():
                _add(self._probes, (probe, "passed" if passed else "failed"), count)
            if node.backoff_ns:
                _add(self._backoff_s, (name,), node.backoff_ns / 1e9)
            if node.outcome not in ("", "unchanged", "skipped"):
                step = (found.command, kind, node.outcome)
                self._steps.setdefault(step, Durations()).add(node.own_ns / 1e9)
            if found.command == "replay":
                _add(self._replayed, (REPLAYED.get(node.outcome, "diverged"),), 1)
                before = self._shown["up"].nodes.get(name) if "up" in self._shown else None
                if before is not None and node.outcome == before.outcome == "changed":
                    self._replay_drift.add(abs(node.own_ns - before.own_ns) / 1e9)

    # -- families ------------------------------------------------------------------------

    def families(self) -> Families:
        """The very same tables as before while the journal says nothing new."""
        if self._told is None:
            self._told = [*self._graph(), *self._run_families(), *self._node_families()]
        return self._told

    def _graph(self) -> Iterator[tuple[Family, Table]]:
        yield _gauge(
            "orchestrator_dag_node_info",
            "Node of the graph.",
            ("node", "kind", "layer"),
            {(n, n.partition(":")[0], node.layer): 1 for n, node in self._nodes.items()},
        )
        yield _gauge(
            "orchestrator_dag_edge_info",
            "Dependency of the graph.",
            ("node", "depends_on"),
            {(n, need): 1 for n, node in self._nodes.items() for need in node.needs},
        )
        yield _gauge(
            "orchestrator_node_state",
            "1 for the node's present state.",
            ("node", "state"),
            {(n, past.state): 1 for n, past in self._states.items() if past.state in STATES},
        )

    def _run_families(self) -> Iterator[tuple[Family, Table]]:
        last = self._last
        yield _gauge(
            "orchestrator_run_info",
            "The last run of each operation.",
            ("run_id", "operation"),
            {(run.run, name): 1 for name, run in last.items()},
        )
        yield _histogram(
            "orchestrator_run_duration_seconds",
            "Duration of runs.",
            ("operation", "outcome"),
            self._runs,
        )
        yield _gauge(
            "orchestrator_last_run_duration_seconds",
            "Duration of the last run.",
            ("operation",),
            {(name,): run.wall_ns / 1e9 for name, run in last.items()},
        )
        yield _gauge(
            "orchestrator_last_run_timestamp_seconds",
            "When the last run began.",
            ("operation",),
            {(name,): run.begun_wall_ns / 1e9 for name, run in last.items()},
        )
        yield _gauge(
            "orchestrator_last_run_success",
            "1 if the last run came to its end without a failure.",
            ("operation",),
            {(n,): float(run.outcome in ("changed", "unchanged")) for n, run in last.items()},
        )
        shown = self._shown.get("up")
        floor_s = shown.floor_ns / 1e9 if shown else 0.0
        yield _gauge(
            "orchestrator_setup_critical_path_seconds",
            "Own work summed along the critical path: the floor for this graph.",
            (),
            {(): floor_s},
        )
        yield _gauge(
            "orchestrator_setup_budget_seconds",
            "Configured setup budget.",
            (),
            {(): self._budget_s},
        )
        yield _counter("orchestrator_replay_steps", "Replayed steps.", ("result",), self._replayed)
        yield _histogram(
            "orchestrator_replay_drift_seconds",
            "Absolute difference between a node's own time in a replay and in the up before it.",
            (),
            {(): self._replay_drift},
        )
        kinds: Numbers = {(name.partition(":")[0],): 0.0 for name in self._nodes}
        yield _gauge(
            "orchestrator_teardown_leaked_resources",
            "Nodes that were still there after the last down.",
            ("kind",),
            {**kinds, **self._leaked()},
        )

    def _leaked(self) -> Numbers:
        found: Numbers = {}
        down = self._last.get("down")
        for name, node in down.nodes.items() if down else ():
            if node.outcome not in ("changed", "unchanged"):
                _add(found, (name.partition(":")[0],), 1)
        return found

    def _node_families(self) -> Iterator[tuple[Family, Table]]:
        shown = {name: run for name, run in self._shown.items() if name in OPERATIONS}
        rows = [
            (op, node)
            for op, run in shown.items()
            for node in run.nodes.values()
            if op == "up" or node.outcome not in ("unchanged", "skipped")
        ]
        phases = [(op, n.node, str(p), t) for op, n in rows for p, t in n.phases.items() if t.ns]
        labels = ("operation", "node", "phase")
        yield _gauge(
            "orchestrator_node_phase_offset_seconds",
            "When work on the node first began, from the start of the last run that changed "
            "something.",
            labels,  # each other phase begins where the one before it ends
            {
                (op, node, phase): time.offset_ns / 1e9
                for op, node, phase, time in phases
                if phase == Phase.PROVISION and op != "down"
            },
        )
        yield _gauge(
            "orchestrator_node_phase_last_seconds",
            "Phase duration in the last run that changed something.",
            labels,
            {(op, node, phase): time.ns / 1e9 for op, node, phase, time in phases},
        )
        yield _gauge(
            "orchestrator_node_critical",
            "1 for the nodes that were on the critical path of that run; no others.",
            ("operation", "node"),
            {(op, n.node): 1 for op, n in rows if n.is_critical},
        )
        yield _gauge(
            "orchestrator_node_slack_seconds",
            "How much longer the node could take without delaying the last up.",
            ("operation", "node"),
            {
                (op, n.node): n.slack_ns / 1e9
                for op, n in rows
                if n.slack_ns is not None and op == "up"
            },
        )
        yield _histogram(
            "orchestrator_node_duration_seconds",
            "Own work of a node, without dependency and slot wait.",
            ("operation", "kind", "outcome"),
            self._steps,
        )
        yield _counter(
            "orchestrator_node_attempts",
            "Attempts by outcome.",
            ("node", "outcome"),
            self._attempts,
        )
        yield _counter(
            "orchestrator_node_backoff_seconds",
            "Time slept between attempts.",
            ("node",),
            self._backoff_s,
        )
        yield _counter(
            "orchestrator_readiness_probes",
            "Answers of readiness probes that differed from the one before.",
            ("type", "result"),
            self._probes,
        )
        yield _histogram(
            "orchestrator_readiness_probe_duration_seconds",
            "Duration of the readiness probes that gave their gate another answer.",
            ("type", "result"),
            self._probe_times,
        )
        yield _counter(
            "orchestrator_drift_found",
            "Drift found outside of a run that was to change the node.",
            ("kind",),
            self._drifts,
        )


def _add(table: Numbers, key: Key, value: float) -> None:
    table[key] = table.get(key, 0.0) + value


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[Key, float]
) -> tuple[Family, Table]:
    return Family(name, "gauge", labels, text), dict(values)


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[Key, float]
) -> tuple[Family, Table]:
    return Family(name, "counter", labels, text), dict(values)


def _histogram(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[Key, Durations]
) -> tuple[Family, Table]:
    return Family(name, "histogram", labels, text), {k: v.buckets() for k, v in values.items()}
