"""What the bench reports of a comparison, and of one that failed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from bench.pairs import INSTANCES, Pair, Way
from bench.rows import Section, at_least, markdown
from bench.turns import Turn, UnservedError


class Client:
    """Serves so many requests in each turn; none: they are not answered."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        self.connected = 1

    def connect_anew(self) -> None:
        self.connected += 1

    def turn(self, _: float, **__: float) -> Turn:
        if not self.requests:
            raise UnservedError("no answer to 3 requests in 10 s")
        return Turn(self.requests, 1_000_000, 2_000_000 // self.requests)


def pair(part: Any, whole: Any) -> Pair:
    return Pair("some ÷ all", Way("some", part), Way("all", whole), at_least(0.9), round_s=1e-3)


def test_a_pair_that_is_not_answered_says_so_in_its_row() -> None:
    failed = pair(Client(0), Client(100))
    for _ in range(2):
        failed.round()
    (line,) = markdown([Section("Pairs", failed.rows("GET"))]).splitlines()[5:]
    assert line == "| some ÷ all | not measured | | | no answer to 3 requests in 10 s |"
    assert failed.margin() == "some ÷ all not compared"


def test_a_pair_is_compared_by_what_was_served() -> None:
    compared = pair(Client(90), Client(100))
    compared.round()
    (found,) = [row for row in compared.rows("GET") if row.name == "some ÷ all"]
    assert found.values == [0.9]
    assert found.holds


def test_a_pair_with_labs_of_its_own_is_compared_over_several_of_them() -> None:
    """One slow lab is as much of the interval as it is of the rounds."""
    client = Client(80)
    rates = iter([80, 100] * INSTANCES)

    def anew() -> None:
        client.requests = next(rates)

    compared = replace(pair(client, Client(100)), anew=anew)
    for _ in range(2):
        compared.round()
    assert next(rates, None) is None
    assert client.connected == 1 + 2 * INSTANCES
    low, high = re.search(r" \((0\.\d+) – (\d\.\d+)\), by CPU", compared.margin()).groups()
    assert float(low) < 0.88
    assert 0.92 < float(high) <= 1
    assert compared.margin().endswith(f"of {2 * INSTANCES} labs each)")
