"""The text of metrics, read back by the library's own parsers."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest, parser
from prometheus_client.openmetrics import parser as open_parser

from orchestrator.exposition import Buckets, Exemplar, Family, Sheet, Table, is_open_wanted

ODD = 'a "b"\\c\nd'
COUNTER = Family("calls", "counter", ("who",), "Calls\nmade.")
GAUGE = Family("level", "gauge", ("a", "b"), "Level.")
TIME = Family("time_seconds", "histogram", ("who",), "Time.")
BOUNDS = ("0.1", "0.5", "+Inf")


def rows(text: str, *, is_open: bool) -> dict[tuple[str, ...], float]:
    parse = open_parser if is_open else parser
    return {
        (each.name, *(each.labels[key] for key in sorted(each.labels))): each.value
        for family in parse.text_string_to_metric_families(text)
        for each in family.samples
    }


@pytest.mark.parametrize("is_open", [False, True])
def test_text_says_what_was_given(is_open: bool) -> None:
    levels: Table = {("x", ODD): 0.1, ("y", ""): -math.inf, ("z", ""): 1e20}
    text = Sheet(is_open=is_open).text(
        [
            (COUNTER, {(ODD,): 3}),
            (GAUGE, levels),
            (TIME, {("x",): Buckets(BOUNDS, (1, 2, 4), 7.5)}),
        ]
    )
    assert rows(text, is_open=is_open) == {
        ("calls_total", ODD): 3,
        ("level", "x", ODD): 0.1,
        ("level", "y", ""): -math.inf,
        ("level", "z", ""): 1e20,
        ("time_seconds_bucket", "0.1", "x"): 1,
        ("time_seconds_bucket", "0.5", "x"): 2,
        ("time_seconds_bucket", "+Inf", "x"): 4,
        ("time_seconds_count", "x"): 4,
        ("time_seconds_sum", "x"): 7.5,
    }


def test_text_is_the_librarys() -> None:
    registry = CollectorRegistry()
    theirs = Histogram("time_seconds", "Time.", ["who"], buckets=[0.1, 0.5], registry=registry)
    theirs.labels("x").observe(0.25)
    wanted = [
        line for line in generate_latest(registry).decode().split("\n") if "_created" not in line
    ]
    ours = Sheet(is_open=False).text([(TIME, {("x",): Buckets(BOUNDS, (0, 1, 1), 0.25)})])
    assert rows(ours, is_open=False) == rows("\n".join(wanted), is_open=False)
    assert ours.splitlines()[:2] == wanted[:2]


def test_what_changes_is_spelled_anew_and_what_went_is_gone() -> None:
    sheet = Sheet(is_open=False)
    sheet.text([(COUNTER, {("a",): 1, ("b",): 1})])
    assert rows(sheet.text([(COUNTER, {("a",): 2})]), is_open=False) == {("calls_total", "a"): 2}


def test_not_a_number_stays_one() -> None:
    sheet = Sheet(is_open=False)
    for _ in range(2):
        (value,) = rows(sheet.text([(GAUGE, {("x", ""): math.nan})]), is_open=False).values()
        assert math.isnan(value)


def test_exemplar_leads_to_its_request_in_openmetrics_alone() -> None:
    shown = (None, Exemplar("abc", 0.25, 12.5), None)
    table = {("x",): Buckets(BOUNDS, (0, 1, 1), 0.25, shown)}
    (family,) = open_parser.text_string_to_metric_families(
        Sheet(is_open=True).text([(TIME, table)])
    )
    (found,) = [each.exemplar for each in family.samples if each.exemplar]
    assert (found.labels, found.value, float(found.timestamp)) == ({"trace_id": "abc"}, 0.25, 12.5)
    assert "abc" not in Sheet(is_open=False).text([(TIME, table)])


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", True),
        ("text/plain;version=0.0.4", False),
        ("", False),
    ],
)
def test_format_is_chosen_by_who_asks(accept: str, expected: bool) -> None:
    assert is_open_wanted(accept) is expected
