"""What others wrote can neither steer a terminal nor forge a line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.events import Noticed, Record, decode, encode
from orchestrator.sights.console import failure_report
from orchestrator.terminal import clean, clean_lines, whole_lines

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
