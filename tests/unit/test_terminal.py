"""What others wrote can neither steer a terminal nor forge a line."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from orchestrator.engine.bus import Bus
from orchestrator.events import DriftFound, Noticed, Record, RunStarted, decode, encode
from orchestrator.sights.console import PlainLines, failure_report, line
from orchestrator.sights.livetable import LiveTable
from orchestrator.terminal import clean, clean_lines, counted, gist, whole_lines

STEERS = ["\x1b[2J", "\r", "\n", "\x07", "\x08", "\x9b31m", "\u2028", "\u202e", "\x85", "\x0c"]


@pytest.mark.parametrize("text", STEERS)
def test_nothing_that_steers_is_left(text: str) -> None:
    assert clean(f"a{text}b").isprintable()


def test_tab_and_letters_of_all_languages_stay() -> None:
    assert clean("a\tü€漢👍") == "a\tü€漢👍"


def test_lines_of_ours_stay_lines() -> None:
    assert clean_lines("one\ntwo\x1b") == "one\ntwo�"


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    assert clean(text).replace("\t", "").isprintable()
    assert len(clean(text)) == len(text)


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line)), st.binary())
def test_only_a_line_feed_ends_a_line(lines: list[bytes], rest: bytes) -> None:
    data = b"".join(line + b"\n" for line in lines) + rest.replace(b"\n", b"")
    assert len(whole_lines(data)) == len(lines)


def test_one_is_no_plural() -> None:
    assert [counted(number, "node") for number in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
    assert [counted(number, "process") for number in (1, 2)] == ["1 process", "2 processes"]


@given(st.text())
def test_record_is_one_printable_line_and_says_the_same(text: str) -> None:
    record = Record(seq=1, run="r", wall_ns=1, mono_ns=1, event=Noticed("service:a", text))
    line = encode(record)
    assert line.isprintable()
    assert json.loads(line)["text"] == text
    assert decode(line) == replace(record)


def test_report_of_a_failure_is_clean() -> None:
    from orchestrator.events import Outcome, StepFinished

    event = StepFinished(
        node="service:a",
        action="ensure",
        outcome=Outcome.FAILED,
        attempt=1,
        reason="said \x1b[31m",
        log=("\x1b[2J",),
    )
    assert all(line.isprintable() for line in failure_report([event]).split("\n"))


def test_live_table_has_the_nodes_of_the_run_layer_by_layer() -> None:
    layers = {"netns:a": "net", "service:a": "data", "netns:b": "net", "service:b": "data"}
    console = Console(file=io.StringIO(), width=80)
    table = LiveTable(layers, console)
    acted = ("service:a", "netns:b", "netns:a")
    table(Record(0, "r", 0, 0, RunStarted("rotate", "", acted, "")))
    console.print(table.table())
    assert isinstance(console.file, io.StringIO)
    rows = [line.split() for line in console.file.getvalue().splitlines()[2:]]
    assert rows == [
        ["net", "netns:b", "waiting"],
        ["netns:a", "waiting"],
        ["data", "service:a", "waiting"],
    ]


def test_broken_sight_is_called_by_its_type() -> None:
    class Ragged(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError("gone")

    told: list[str] = []
    bus = Bus("r", first_seq=0, broken=told.append)
    bus.add(PlainLines(Ragged()))
    for _ in range(2):
        bus.emit(Noticed("a", "text"))
    assert told == ["PlainLines: gone"]


@pytest.mark.parametrize(
    ("detail", "told"),
    [("", ""), ("is down", "is down"), ("is down; no route; no address", "is down (and 2 more)")],
)
def test_of_several_the_first_is_told_and_their_number(detail: str, told: str) -> None:
    assert gist(detail) == told
    assert line(DriftFound("veth:web", detail)) == f"veth:web: drift: {told}"
