"""Two ways that differ in one thing, compared by turns, and how sure the result is."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from bench.rows import Bound, Row, ratio
from bench.turns import Client, Turn, UnservedError

ROUND_S = 10.0  # of one pair, both of its ways together; longer where turns are long
INSTANCES = 4  # a round, where another lab serves one way than the other
TURN_S = 0.1
WARM_S = 0.2  # after something was changed, before it is measured
ANEW_WARM_S = 0.5  # a new lab, before it is measured
FILLED_S = 0.02  # until every connection waits for an answer
RESAMPLED = 1000
BLOCK = 5  # turns that are resampled together: what moves a machine lasts longer than one
Turns = list[tuple[Turn, Turn]]  # of the part, of the whole


@dataclass(frozen=True)
class Way:
    """One way to be served; `during` makes it so for the length of a turn."""

    name: str
    client: Client
    during: Callable[[], AbstractContextManager[None]] | None = None
    warm_s: float = WARM_S

    def turn(self, seconds: float) -> Turn:
        if self.during is None:
            return self.client.turn(seconds, warm_s=FILLED_S)
        with self.during():
            return self.client.turn(seconds, warm_s=self.warm_s)


@dataclass(frozen=True)
class Pair:
    """What the part does of what the whole does, in throughput.

    `anew` builds both ways anew: two labs of one stack differ by some hundredths for as long as
    they live, so where each way has its own, one of each would say little.
    """

    name: str
    part: Way
    whole: Way
    target: Bound | None = None
    turn_s: float = TURN_S
    round_s: float = ROUND_S
    anew: Callable[[], None] | None = None
    rounds: list[Turns] = field(default_factory=list)
    blocks: list[Turns] = field(default_factory=list)  # the same, by what moved them together
    failures: list[str] = field(default_factory=list)  # any: it is not compared

    def round(self) -> None:
        """The others are compared even if this one cannot be."""
        if not self.failures:
            try:
                self._round()
            except UnservedError as error:
                self.failures.append(str(error))

    def _round(self) -> None:
        found: Turns = []
        if self.anew is None:
            found = self._turns(self.round_s)
            self.blocks.extend(found[at : at + BLOCK] for at in range(0, len(found), BLOCK))
        else:
            for _ in range(INSTANCES):
                self.anew()
                for way in (self.part, self.whole):
                    way.client.connect_anew()
                    way.turn(ANEW_WARM_S)
                self.blocks.append(self._turns(self.round_s / INSTANCES))
                found += self.blocks[-1]
        self.rounds.append(found)

    def _turns(self, seconds: float) -> Turns:
        """Next to each other in time, and equally often the first: by lot, so that nothing that
        comes and goes with a period of its own falls always on the same."""
        found: Turns = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if random.getrandbits(1):
                part = self.part.turn(self.turn_s)
                found.append((part, self.whole.turn(self.turn_s)))
            else:
                whole = self.whole.turn(self.turn_s)
                found.append((self.part.turn(self.turn_s), whole))
        return found

    def rows(self, asked: str) -> list[Row]:
        """Throughput, and the processor's time, which other work on the machine moves less."""
        if self.failures:
            return [Row(self.name, [], "×", self.target, self.failures[0])]
        part, whole = (
            Row(f"{asked}, {way.name}", [_rate(turns, which) for turns in self.rounds], "/s")
            for which, way in enumerate((self.part, self.whole))
        )
        costs = [
            Row(f"{self.name}: CPU", [_cost_us(turns, which) for turns in self.rounds], "µs")
            for which in (1, 0)
        ]
        return [
            part,
            whole,
            ratio(self.name, part, whole, self.target),
            ratio(f"{self.name}: CPU, the other way", *costs),
        ]

    def margin(self) -> str:
        """Both ratios over all turns, each with its interval of confidence: bootstrap, resampled
        by blocks of turns that were next to each other, or of the same processes."""
        if self.failures:
            return f"{self.name} not compared"
        by_rate = _interval(self.blocks, lambda them: _rate(them, 0) / _rate(them, 1))
        by_cpu = _interval(self.blocks, lambda them: _cost_us(them, 1) / _cost_us(them, 0))
        count = f"{sum(map(len, self.blocks))} turns each"
        if self.anew is not None:
            count += f", of {len(self.blocks)} labs each"
        return f"{self.name} {by_rate}, by CPU {by_cpu} ({count})"


@contextlib.contextmanager
def between(turn: Callable[[Any], None], first: object, last: object) -> Iterator[None]:
    """Something is otherwise for the length of a block."""
    turn(first)
    try:
        yield
    finally:
        turn(last)


def _rate(turns: Turns, which: int) -> float:
    """Requests per second of one way."""
    wall_ns = sum(each[which].wall_ns for each in turns)
    return sum(each[which].requests for each in turns) / wall_ns * 1e9


def _cost_us(turns: Turns, which: int) -> float:
    """CPU of one request."""
    cpu_ns = sum(each[which].cpu_ns for each in turns)
    return cpu_ns / sum(each[which].requests for each in turns) / 1e3


def _interval(blocks: Sequence[Turns], figure: Callable[[Turns], float]) -> str:
    dice = random.Random(0)
    again = [
        figure([each for block in dice.choices(blocks, k=len(blocks)) for each in block])
        for _ in range(RESAMPLED)
    ]
    edges = quantiles(again, n=40)  # the first and the last: 2.5 % and 97.5 %
    turns = [each for block in blocks for each in block]
    return f"{figure(turns):.3f} ({edges[0]:.3f} – {edges[-1]:.3f})"
