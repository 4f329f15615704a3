"""Every fact that can happen, frozen; and its form on one line of JSON.

State is a fold over these. Durations are never stored: they are differences of `mono_ns`
(CLOCK_MONOTONIC, comparable within one boot, hence `boot_id` in `RunStarted`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any

from msgspec import Struct, field
from msgspec.json import Encoder
from msgspec.structs import FieldInfo, fields

Weights = Mapping[str, int]  # node → the greater, the sooner it begins
Needs = Mapping[str, Mapping[str, str]]  # node → need → the stage it waits for


class Outcome(StrEnum):
    """How a step on one node ended."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What a run does to its nodes."""

    ENSURE = "ensure"
    REMOVE = "remove"


class Cause(StrEnum):
    """Why an attempt was the last one."""

    ERROR = "error"
    TIMEOUT = "timeout"  # the node's deadline passed
    CANCELLED = "cancelled"


class RunStarted(Struct, frozen=True):
    """A command began to work on the lab.

    `needs` is the order that the run obeys (when taking away: reversed), for each node that
    waits for any: the stage of each need, `started`, `ready` or `beside`. Of several that may
    begin, the one of the greatest of `weights` does first; where these are empty, the one that
    the longest chain hangs on. Journals of before have neither `needs` nor `max_workers`.
    """

    command: str
    stack_digest: str
    nodes: tuple[str, ...]
    boot_id: str
    needs: Needs = field(default_factory=dict)
    max_workers: int = 0
    weights: Weights = field(default_factory=dict)


class StepQueued(Struct, frozen=True):
    """All needs of a node are met; it waits for a slot. `released_by` is the need met last."""

    node: str
    attempt: int
    released_by: str


class SlotTaken(Struct, frozen=True):
    """The node's own work begins, with a look at what is there and what is left to undo."""

    node: str
    attempt: int


class StepStarted(Struct, frozen=True):
    """The intent, on disk before the world is touched."""

    node: str
    action: Action
    attempt: int


class StepProvisioned(Struct, frozen=True):
    """The node's own work is done, not yet what its readiness waits for."""

    node: str
    attempt: int


class StepJoined(Struct, frozen=True):
    """All that a node was started beside is ready, `released_by` as the last: its own readiness
    is asked for only now."""

    node: str
    attempt: int
    released_by: str


class GateChecked(Struct, frozen=True):
    """A probe's answer, told when it differs from the one before.

    A probe has no event for its beginning, so how long it took stands here; 0 for what was
    pushed, and in journals of before.
    """

    node: str
    probe: str
    passed: bool
    answer: str
    took_ns: int = 0


class StepRetried(Struct, frozen=True):
    """An attempt failed; the next one follows after `delay_s`."""

    node: str
    attempt: int
    delay_s: float
    reason: str


class StepGivenUp(Struct, frozen=True):
    """No attempt follows; what this run left half-built of the node is taken away next."""

    node: str
    attempt: int
    cause: Cause


class StepFinished(Struct, frozen=True):
    """The outcome of a node in this run."""

    node: str
    action: Action
    outcome: Outcome
    attempt: int
    reason: str
    log: tuple[str, ...] = ()


class ProcessStarted(Struct, frozen=True):
    """A process runs; pid and start time identify it after a crash of ours."""

    node: str
    pid: int
    start_ticks: int


class ProcessExited(Struct, frozen=True):
    """A process ended; negative codes are signals."""

    node: str
    pid: int
    returncode: int


class DriftFound(Struct, frozen=True):
    """Something is not as wanted, outside of a run that is to change it."""

    node: str
    detail: str


class HealingGivenUp(Struct, frozen=True):
    """What was healed broke again and again: it is left as it is until somebody mends it."""

    node: str
    reason: str


class Noticed(Struct, frozen=True):
    """Something worth telling that changes nothing, e.g. a setting left as it is."""

    node: str
    text: str


class CancelRequested(Struct, frozen=True):
    """A signal asked the run to stop."""

    signal: str


class RunFinished(Struct, frozen=True):
    """The run's end; counts per outcome follow from the steps."""

    outcome: Outcome
    failed: tuple[str, ...]
    skipped: tuple[str, ...]


Event = (
    RunStarted
    | StepQueued
    | SlotTaken
    | StepStarted
    | StepProvisioned
    | StepJoined
    | GateChecked
    | StepRetried
    | StepGivenUp
    | StepFinished
    | ProcessStarted
    | ProcessExited
    | DriftFound
    | HealingGivenUp
    | Noticed
    | CancelRequested
    | RunFinished
)

EVENTS: dict[str, type[Any]] = {kind.__name__: kind for kind in Event.__args__}

_JSON = Encoder()


class Record(Struct, frozen=True):
    """An event with its place in the journal."""

    seq: int
    run: str
    wall_ns: int
    mono_ns: int
    event: Event


def encode(record: Record) -> str:
    """One line of JSON, without the newline, that a terminal may be shown: a node's reasons
    and logs come from anywhere."""
    event = record.event
    kind = type(event)
    line: dict[str, Any] = {
        "seq": record.seq,
        "run": record.run,
        "wall_ns": record.wall_ns,
        "mono_ns": record.mono_ns,
        "event": kind.__name__,
    }
    for name in kind.__struct_fields__:
        line[name] = getattr(event, name)
    try:
        text = _JSON.encode(line).decode()
    except UnicodeEncodeError:  # half of a surrogate pair: bytes of a log that were no text
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    return text if text.isprintable() else _escaped(text)


def _escaped(text: str) -> str:
    """Control characters beyond those of ASCII, which JSON escapes anyway, and their like."""
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def decode(line: str) -> Record:
    """The record of one line. Raises ValueError with the reason if it is none."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    name = data.get("event") if isinstance(data, dict) else None
    if not isinstance(name, str) or name not in EVENTS:
        raise ValueError("no known event in it")
    kind = EVENTS[name]
    values: dict[str, Any] = {}
    for each in _fields(name):
        if each.name not in data:
            if each.required:
                raise ValueError(f"{name} without {each.name}")
            continue
        values[each.name] = _convert(data[each.name], each.type, name, each.name)
    envelope = {key: data.get(key) for key in ("seq", "wall_ns", "mono_ns")}
    if not all(type(value) is int and abs(value) < 2**63 for value in envelope.values()):
        raise ValueError("seq, wall_ns and mono_ns must be whole numbers of 64 bits")
    if not isinstance(data.get("run"), str):
        raise ValueError("run must be a string")
    return Record(
        seq=data["seq"],
        run=data["run"],
        wall_ns=data["wall_ns"],
        mono_ns=data["mono_ns"],
        event=kind(**values),
    )


@cache
def _fields(event: str) -> tuple[FieldInfo, ...]:
    return fields(EVENTS[event])


def _convert(value: Any, hint: Any, event: str, field: str) -> Any:
    """The value in the field's type, or ValueError."""
    if hint == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif hint == Needs:
        if isinstance(value, dict) and all(_is_stages(stages) for stages in value.values()):
            return value
    elif hint == Weights:
        if isinstance(value, dict) and all(type(each) is int for each in value.values()):
            return value
    elif isinstance(hint, type) and issubclass(hint, StrEnum):
        if isinstance(value, str) and value in set(hint):
            return hint(value)
    elif hint is float:
        if type(value) in (int, float):
            return float(value)
    elif type(value) is hint:
        return value
    raise ValueError(f"{event}.{field} has a wrong type or value: {value!r}")


def _is_stages(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(stage, str) for stage in value.values())
