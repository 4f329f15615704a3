"""What a line of a log says of its time, and many logs in that order."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from orchestrator.logorder import merged, written_s

NOON = 1_774_526_400  # 2026-03-26 12:00:00 UTC


@pytest.fixture(autouse=True)
def local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two hours before UTC: a zone that nobody names is this one."""
    monkeypatch.setenv("TZ", "XXX-02")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("line", "after_s"),
    [
        ('10.0.0.1 [2026-03-26T12:00:01+00:00] "GET / HTTP/1.1" 200 3 "-"', 1),
        ('10.0.0.1 [2026-03-26T07:30:01-04:30] "GET / HTTP/1.1" 200 3 "-"', 1),
        ("2026/03/26 14:00:02 [crit] 3#3: accept4() failed (24: Too many open files)", 2),
        ("2:M 26 Mar 2026 14:00:00.855 * Ready to accept connections", 0.855),
        ("2026-03-26 12:00:03.388 UTC [2] LOG:  database system is ready", 3.388),
        ("2026-03-26 14:00:04,250 INFO started", 4.25),
        ('time="2026-03-26T12:00:05Z" level=info msg="x"', 5),
        ("ts=2026-03-26T12:00:06.123456789Z caller=main.go:1", 6.123456),
        ('{"at":"2026-03-26T12:00:07+0000","msg":"x"}', 7),
        ("applied: 001_catalogue.sql", None),
        ("", None),
        ("2026-13-45 99:99:99 is no time", None),
        ("9 Foo 2026 12:00:00 neither", None),
        ("123452026-03-26 12:00:00 nor this", None),
        (f"{'x' * 80} 2026-03-26T12:00:00Z a client wrote this", None),
    ],
)
def test_time_of_a_line(line: str, after_s: float | None) -> None:
    expected = None if after_s is None else pytest.approx(NOON + after_s, abs=1e-5)
    assert written_s(line) == expected


def test_lines_of_all_come_in_the_order_of_their_time() -> None:
    logs = {
        "edge": ["[2026-03-26T12:00:01Z] a", "[2026-03-26T12:00:03Z] d"],
        "order": [
            "Starting",  # before it says any time: with what comes next
            "2026-03-26 12:00:02.500 UTC error",
            "    Traceback",
            "2026-03-26 12:00:02.100 UTC a clock that was put back overtakes nobody",
            "2026-03-26 12:00:04 UTC e",
        ],
        "job": ["done", "and gone"],
        "other": ["2026-03-26 12:00:02.400 UTC b"],
        "nothing": [],
    }
    found = list(merged(logs, {"job": NOON + 3.5}))
    assert [name for name, _ in found] == [
        *("edge", "other", "order", "order", "order", "order"),
        *("edge", "job", "job", "order"),
    ]
    for name, lines in logs.items():
        assert [line for each, line in found if each == name] == lines


def test_those_of_one_time_stay_in_the_order_of_the_logs() -> None:
    logs = {name: ["2026-03-26T12:00:00Z x"] * 2 for name in ("b", "a")}
    assert [name for name, _ in merged(logs, {})] == ["b", "b", "a", "a"]
