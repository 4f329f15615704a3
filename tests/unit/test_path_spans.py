"""Where a request's time went: exact sums, also where calls overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.path.spans import Call, Request, Stay, parse, parse_counted, shares
from orchestrator.path.totals import BOUNDS_US, Histogram, Totals, quantile_us
from orchestrator.path.view import waterfall

TRACE = "5c123360b01c38df27b051f6de928526"
BELOW = (
    "gw,1450,4650,/api/products/{id}"
    ";gw>product,200,1500,4600,1900,4100"
    ";product>redis,ok,2000,2200"
    ";product>pg,ok,2300,3300"
)
EDGE = ("1", "1000", "1050", "5050", "5100", "200", "200", TRACE, "/api/products/7")
LINE = "\t".join([*EDGE, BELOW])


def sums(request: Request) -> float:
    found = shares(request)
    ways = sum(there + back for *_, there, back in found.transits)
    return sum(found.hops.values()) + ways + found.unattributed_us


def test_each_hop_has_what_it_did_itself_and_each_way_its_time() -> None:
    request = parse(LINE, "edge")
    found = shares(request)
    assert request.route == "/api/products/{id}"
    assert found.hops == {"edge": 100, "gw": 100, "product": 1000, "redis": 200, "pg": 1000}
    assert found.transits == [("edge", "gw", 400, 400), ("gw", "product", 400, 500)]
    assert found.unattributed_us == 0
    assert sums(request) == request.total_us == 4100


def test_local_answer_is_the_edges_own_time() -> None:
    line = "\t".join(["1", "1000", "1090", "1060", "1100", "200", "-", TRACE, "/health", "-"])
    request = parse(line, "edge")
    assert shares(request).hops == {"edge": 100}
    assert request.route == "/health"


def test_silent_upstream_is_unattributed_and_the_request_partial() -> None:
    line = "\t".join(["1", "1000", "1050", "1950", "2000", "502", "502", TRACE, "/api/x", "-"])
    request = parse(line, "edge")
    found = shares(request)
    assert request.is_partial
    assert found.hops == {"edge": 100}
    assert found.unattributed_us == 900


def test_calls_that_were_left_out_make_the_request_partial() -> None:
    request = parse(f"{LINE};+7", "edge")
    assert request.is_partial
    assert shares(request) == shares(parse(LINE, "edge"))


def test_coarse_edge_gives_hops_exactly_and_says_how_coarse_it_is() -> None:
    below = LINE.split("\t")[-1]
    line = "\t".join(["1", "0.004", "", "", "", "200", "200", TRACE, "/api/products/7", below])
    request = parse(line, "edge")
    found = shares(request)
    assert request.resolution_us == 1000
    assert request.total_us == 4000
    assert found.hops["pg"] == 1000
    assert found.hops["edge"] == 800  # with its way to the gateway and back
    assert sums(request) == 4000


def test_coarse_edge_that_rounds_down_is_never_negative() -> None:
    below = LINE.split("\t")[-1]
    line = "\t".join(["1", "0.000", "", "", "", "200", "200", TRACE, "/api/products/7", below])
    assert min(shares(parse(line, "edge")).hops.values()) >= 0


def test_request_counts_for_those_that_it_stands_for() -> None:
    request = parse(LINE.replace("1\t", "16\t", 1), "edge")
    totals = Totals()
    totals.add(request, shares(request), at_s=0.0)
    for _ in range(15):
        route, status, total_us = parse_counted("\t200\t0.004\tgw,,,/api/products/{id}")
        totals.count(route, status, total_us, 1)
    assert totals.request["/api/products/{id}", "2xx"].count == 16
    assert totals.hop["redis", "/api/products/{id}"].count == 16
    assert totals.hop["redis", "/api/products/{id}"].sum_us == 16 * 200
    assert totals.transit["edge", "gw", "there"].sum_us == 16 * 400
    assert totals.edges["product", "pg", "ok"] == 16


def test_counted_request_has_a_route_where_the_edge_knows_it() -> None:
    assert parse_counted("\t201\t0.004\t,,,/api/orders") == ("/api/orders", 201, 4000)


def test_counted_request_has_a_route_where_the_edge_answered_itself() -> None:
    assert parse_counted("\t200\t0.001\t/health") == ("/health", 200, 1000)
    assert parse_counted("\t502\t2.000\t/api/x") == ("other", 502, 2_000_000)


def test_calls_side_by_side_share_the_time_they_have_together() -> None:
    root = Stay("edge", 0, 100)
    root.calls = [
        Call("a", "ok", 10, 50, None),
        Call("b", "ok", 30, 70, None),
    ]
    found = shares(Request(TRACE, "/", "/", 200, root, 1, False))
    assert found.hops == {"edge": 40, "a": 30, "b": 30}


def test_service_called_twice_keeps_what_each_stay_called() -> None:
    header = (
        "gw,100,900,/x;gw>p,200,110,400,120,390;p>pg,ok,130,380"
        ";gw>p,200,410,800,420,790;p>pg,ok,430,700"
    )
    line = "\t".join(["1", "0", "90", "910", "1000", "200", "200", TRACE, "/x", header])
    spans = waterfall(0.0, parse(line, "edge"))["spans"]
    shape = [(span["depth"], span["hop"], span["duration_ms"]) for span in spans]
    assert shape == [
        (0, "edge", 1.0),
        (1, "gw", 0.8),
        (2, "p", 0.27),
        (3, "pg", 0.25),
        (2, "p", 0.37),
        (3, "pg", 0.27),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a\tb",
        LINE.replace("1050", "x"),
        LINE.replace("gw,1450", "gw,1450,,,"),
        LINE.replace("product>pg", "ghost>pg"),
        LINE + "\tmore",
        LINE.replace("ok,2000,2200", "ok,2000"),
    ],
)
def test_damaged_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - every kind of damage is one
        parse(line, "edge")


@st.composite
def stays(draw: st.DrawFn, hop: str = "edge", depth: int = 0) -> Stay:
    """Any tree of calls, overlapping or not, even with stamps that contradict each other."""
    moments = st.integers(0, 1000)
    begin, end = sorted((draw(moments), draw(moments)))
    stay = Stay(hop, begin, end)
    if depth < 3:
        for number in range(draw(st.integers(0, 3))):
            sent, received = sorted((draw(moments), draw(moments)))
            name = f"{hop}.{number}"
            inner = draw(stays(hop=name, depth=depth + 1)) if draw(st.booleans()) else None
            stay.calls.append(Call(name, "ok", sent, received, inner))
    return stay


@given(stays())
def test_shares_add_up_to_the_total_and_none_is_negative(root: Stay) -> None:
    request = Request(TRACE, "/", "/", 200, root, 1, False)
    found = shares(request)
    assert sums(request) == pytest.approx(request.total_us, abs=1e-6)
    values = [*found.hops.values(), found.unattributed_us]
    values += [time for *_, there, back in found.transits for time in (there, back)]
    assert min(values) >= -1e-9


@given(st.lists(st.floats(0, 1e7, allow_nan=False), min_size=1, max_size=50))
def test_quantile_lies_in_the_bucket_of_the_value_of_that_rank(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    median = sorted(values)[(len(values) - 1) // 2]
    bounds = [0, *BOUNDS_US]
    low = max(bound for bound in bounds if bound < median or bound == 0)
    high = min((bound for bound in BOUNDS_US if bound >= median), default=BOUNDS_US[-1])
    found = quantile_us(histogram.counts, 0.5)
    assert found is not None
    assert low <= found <= high


def test_totals_come_back_from_json_as_they_were() -> None:
    totals = Totals()
    request = parse(LINE, "edge")
    totals.add(request, shares(request), at_s=1.0)
    totals.way("client", "edge", 10, 20)
    again = Totals.load(totals.dump())
    assert again.dump() == totals.dump()
    assert again.edges["edge", "gw", "2xx"] == 1
    assert again.edges["product", "pg", "ok"] == 1


@pytest.mark.parametrize("data", [{}, {"bounds_us": [1]}, {"bounds_us": list(BOUNDS_US)}])
def test_other_totals_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Totals.load(data)


def test_routes_are_few_whatever_is_asked_for() -> None:
    totals = Totals()
    for number in range(100):
        request = parse(LINE.replace("/api/products/{id}", f"/r{number}"), "edge")
        totals.add(request, shares(request), at_s=0)
    assert len({route for route, _ in totals.request}) <= 33
    assert sum(each.count for each in totals.request.values()) == 100
