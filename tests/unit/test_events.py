"""Events on a line of JSON and back, and a journal that survives what befalls files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from graphs import settings
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from orchestrator.events import EVENTS, Needs, Record, RunStarted, Weights, decode, encode
from orchestrator.sights import journal

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@st.composite
def records(draw: st.DrawFn) -> Record:
    kind = EVENTS[draw(st.sampled_from(sorted(EVENTS)))]
    hints = get_type_hints(kind)
    strategies: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT,
        int: st.integers(-(2**62), 2**62),
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        tuple[str, ...]: st.lists(TEXT).map(tuple),
        Needs: st.dictionaries(TEXT, st.dictionaries(TEXT, TEXT)),
        Weights: st.dictionaries(TEXT, st.integers()),
    }
    values = {
        name: draw(
            strategies[hints[name]] if hints[name] in strategies else st.sampled_from(hints[name])
        )
        for name in kind.__struct_fields__
    }
    number = st.integers(0, 2**62)
    return Record(draw(number), draw(TEXT), draw(number), draw(number), kind(**values))


def started(seq: int) -> Record:
    return Record(seq, "run", 1, 2, RunStarted("up", "digest", ("a", "b"), "boot"))


@given(records())
def test_every_event_comes_back_as_it_was(record: Record) -> None:
    line = encode(record)
    assert "\n" not in line
    assert decode(line) == record


@given(
    st.one_of(
        TEXT,
        st.recursive(
            st.none() | st.booleans() | st.integers() | TEXT,
            lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
        ).map(json.dumps),
    )
)
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the class is the promise
        decode(text)


@given(records(), st.data())
def test_a_field_of_a_wrong_type_is_a_value_error(record: Record, data: st.DataObject) -> None:
    line = json.loads(encode(record))
    name = data.draw(st.sampled_from(sorted(set(line) - {"log"})))
    line[name] = data.draw(st.sampled_from([None, {"a": 1}, [1]]))
    with pytest.raises(ValueError):  # noqa: PT011
        decode(json.dumps(line))


@given(st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_journal_of_any_bytes_can_be_read_and_continued(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(data)
    before = journal.read(path)
    book = journal.Journal(path)
    book.append(started(before.next_seq))
    book.close()
    after = journal.read(path)
    assert after.records == (*before.records, started(before.next_seq))


def test_a_journal_of_before_is_readable() -> None:
    line = json.loads(encode(started(0)))
    del line["needs"], line["max_workers"]
    assert decode(json.dumps(line)) == started(0)


def test_torn_last_line_is_no_damage_and_a_middle_one_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = encode(started(0))
    path.write_text(f"{whole}\n{whole[:20]}")
    assert journal.read(path) == journal.History((started(0),), 0)
    path.write_text(f"{whole}\n{whole[:20]}\n{encode(started(2))}\n")
    assert journal.read(path) == journal.History((started(0), started(2)), 1)
    assert journal.read(path).next_seq == 3


def test_missing_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none") == journal.History((), 0)


async def test_follow_sees_what_is_there_and_what_comes(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    book = journal.Journal(path)
    book.append(started(0))
    seen: list[int] = []

    async def reader() -> None:
        async for record in journal.follow(path):
            seen.append(record.seq)
            if record.seq == 1:
                return

    task = asyncio.ensure_future(reader())
    while not seen:  # noqa: ASYNC110 - the reader has no event to give
        await asyncio.sleep(0)
    book.append(started(1))
    await asyncio.wait_for(task, 10)
    book.close()
    assert seen == [0, 1]
