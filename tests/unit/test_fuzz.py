"""What reads from outside: whatever comes, an answer or the error that is meant for it.

The stack file, the journal with everything that looks back on it, the path log. The examples
are the same in every run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import events
from orchestrator.errors import SpecError
from orchestrator.events import Record, encode
from orchestrator.front.feed import Feed, Position, position
from orchestrator.path.spans import parse, shares
from orchestrator.sights import history, journal, runs, timeline
from orchestrator.sights.console import line
from orchestrator.sights.timings import last_times
from orchestrator.stackfile import parse_stack

SHOP = (Path(__file__).parents[2] / "services" / "stack.yaml").read_text()

fuzz = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# -- stack file -------------------------------------------------------------------------------

plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["8080:80", "10.0.0.9", "../x", "30s", "nginx-lb", "migrate", "/data"]),
)  # fmt: skip
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3)
)


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything that is in the data."""
    found = [at] if at else []
    steps = list(enumerate(data)) if isinstance(data, list) else []
    for key, inner in data.items() if isinstance(data, dict) else steps:
        found += places(inner, (*at, key))
    return found


PLACES = places(yaml.safe_load(SHOP))


def parsed(text: str) -> None:
    with contextlib.suppress(SpecError):
        parse_stack(text, "stack.yaml")


@fuzz
@given(st.text())
def test_any_text_is_a_stack_or_refused(text: str) -> None:
    parsed(text)


@settings(fuzz, max_examples=50)
@given(st.sampled_from(PLACES), values)
def test_stack_with_anything_anywhere_is_a_stack_or_refused(
    place: tuple[Any, ...], value: Any
) -> None:
    data = yaml.safe_load(SHOP)
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    parsed(yaml.safe_dump(data))


@fuzz
@given(st.integers(0, len(SHOP)), st.integers(0, 40), st.text(max_size=10))
def test_stack_with_a_broken_line_is_a_stack_or_refused(at: int, gone: int, instead: str) -> None:
    parsed(SHOP[:at] + instead + SHOP[at + gone :])


# -- journal ----------------------------------------------------------------------------------

KINDS = typing.get_args(events.Event)
names = st.sampled_from(["service:a", "service:b", "bridge:br", "x", "", "é\u2028"])
moments = st.one_of(st.integers(0, 10**12), st.integers(-(2**63) + 1, 2**63 - 1))
needs = st.dictionaries(
    names, st.dictionaries(names, st.sampled_from(["provisioned", "ready", "x"]), max_size=2),
    max_size=3,
)  # fmt: skip


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    known: dict[Any, st.SearchStrategy[Any]] = {
        str: names, int: st.integers(-3, 10**6), float: st.floats(), bool: st.booleans(),
        tuple[str, ...]: st.lists(names, max_size=3).map(tuple), events.Needs: needs,
        events.Weights: st.dictionaries(names, st.integers(-3, 10**6), max_size=3),
    }  # fmt: skip
    return known[hint] if hint in known else st.sampled_from(list(hint))


def event_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: of_type(hint) for name, hint in hints.items()})


records = st.builds(
    Record,
    seq=st.integers(-2, 50),
    run=st.sampled_from(["r1", "r2"]),
    wall_ns=moments,
    mono_ns=moments,
    event=st.one_of([event_of(kind) for kind in KINDS]),
)
lines = st.one_of(
    records.map(lambda record: encode(record).encode(errors="replace")),
    st.binary(max_size=60),
    values.map(lambda value: json.dumps(value, default=str, skipkeys=True).encode()),
    st.tuples(records, st.integers(0, 200)).map(
        lambda cut: encode(cut[0]).encode(errors="replace")[: cut[1]]
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@fuzz
@given(st.lists(lines, max_size=12), st.binary(max_size=20))
def test_any_journal_is_read_by_all_who_look_back(
    path: Path, given_lines: list[bytes], rest: bytes
) -> None:
    path.write_bytes(b"".join(each + b"\n" for each in given_lines) + rest)
    found = journal.read(path)
    assert journal.next_seq(path) == found.next_seq or not found.records
    journal.Tail(path).read()
    position(path)
    history.nodes(found.records)
    timeline.summaries(found.records, most=10)
    for head in runs.heads(path):
        runs.load(path, [head.run])
    last_times(path)
    for record in found.records:
        line(record.event)


@fuzz
@given(st.lists(records, min_size=1, max_size=12))
def test_any_records_make_a_run_that_can_be_shown(given_records: list[Record]) -> None:
    json.dumps(timeline.document(given_records))
    timeline.summary(given_records)


@fuzz
@given(st.lists(lines, max_size=6), st.text(max_size=12))
def test_any_journal_is_streamed_to_the_page(
    path: Path, given_lines: list[bytes], since: str
) -> None:
    path.write_bytes(b"".join(each + b"\n" for each in given_lines))

    async def first() -> bytes:
        async for message in Feed(path).follow(Position.parse(since), last=5):
            return message.encode()
        return b""

    async def bounded() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):  # what is there comes before the first wait
                assert (await first()).endswith(b"\n\n")

    asyncio.run(bounded())


# -- path log ---------------------------------------------------------------------------------

numbers = st.one_of(st.integers(-5, 10**7).map(str), st.sampled_from(["", "-", "0.012", "1e9"]))
hops = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "a>b", "b>a", "a>a"]), numbers, numbers, numbers,
                  numbers).map(",".join),
        max_size=4,
    ).map(";".join),
)  # fmt: skip


@fuzz
@given(st.lists(numbers, min_size=4, max_size=4), numbers, numbers, st.text(max_size=5), hops)
def test_any_line_of_the_path_log_is_a_request_or_refused(
    stamps: list[str], status: str, upstream: str, path: str, below: str
) -> None:
    text = "\t".join(["1", *stamps, status, upstream, "0" * 32, path, below])
    with contextlib.suppress(ValueError):
        found = shares(parse(text, "edge"))
        assert all(share >= 0 for share in found.hops.values())
