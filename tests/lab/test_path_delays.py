"""A delay in one place moves that place's time by that much, and nobody else's."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import Asker
from firstinline import first_in_line
from names import next_name
from relay import PORT, Relay
from rig import ROOT, World

DELAYS_MS = (5, 20, 50)
TOLERANCE_MS = 1.0
ROUNDS = 5, 60  # on a busy machine more, until the quartiles stand still
SERVICES = ("api-gateway", "product-service", "order-service")
# Place → the request that passes it.
PLACES = {
    "nginx-lb → api-gateway": "cached product",
    "api-gateway": "cached product",
    "product-service": "cached product",
    "redis-cache": "cached product",
    "order-service": "order read",
    "postgres-db": "order read",
}
FLOWS = f"""
  - {{from: nginx-lb, to: api-gateway, ports: [{PORT}]}}
  - {{from: product-service, to: redis-cache, ports: [{PORT}]}}
  - {{from: order-service, to: postgres-db, ports: [{PORT}]}}
"""
# Every frame of a service begins late by what a file of the test's says.
LATE = """
import pathlib as _pathlib

_begin = Frame.__init__


def _begin_late(self, hop):
    _begin(self, hop)
    time.sleep(float(_pathlib.Path("/stack", "late", hop).read_text()))


Frame.__init__ = _begin_late
"""


class Lab:
    """The shop, unwatched, with a delay to set in each place."""

    def __init__(self, world: World, stack: Path) -> None:
        self.world, self._late = world, stack.parent / "late"
        clients = {"api-gateway": ("10.0.0.10",), "redis-cache": ("10.0.0.30",)}
        clients["postgres-db"] = ("10.0.0.40",)
        ports = {"api-gateway": 3000, "redis-cache": 6379, "postgres-db": 5432}
        last = {"api-gateway": 20, "redis-cache": 50, "postgres-db": 60}
        self.relays = {
            name: Relay(world, name, f"10.0.0.{last[name]}", ports[name], clients[name])
            for name in clients
        }
        for relay in self.relays.values():
            relay.start()
        # Connections from before are none of the relays'.
        world.orchestrator("replay", "services", stack=stack).ok()
        world.orchestrator("replay", "gateway", stack=stack).ok()
        self.asker = Asker(world)

    def ask(self, place: str, delay_ms: int) -> str:
        """One request that is late by so much in that place."""
        for name in SERVICES:
            (self._late / name).write_text("0")
        if place in SERVICES:
            (self._late / place).write_text(str(delay_ms / 1000))
        else:
            self.relays[place.rpartition(" ")[2]].hold(delay_ms / 1000)
        return self.asker.ask(PLACES[place])

    def close(self) -> None:
        self.asker.close()
        for relay in self.relays.values():
            relay.stop()


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("delays")
    directory.chmod(0o755)
    stack = directory / "services" / "stack.yaml"
    shutil.copytree(ROOT / "services", stack.parent)
    with (stack.parent / "shared" / "hops.py").open("a") as file:
        file.write(LATE)
    text = stack.read_text()
    assert text.count("\nflows:\n") == 1
    stack.write_text(text.replace("\nflows:\n", f"\nflows:\n{FLOWS}"))
    late = stack.parent / "late"
    late.mkdir()
    for name in SERVICES:
        (late / name).write_text("0")
    world = World.build(next_name(), directory)
    try:
        world.orchestrator("up", stack=stack).ok()
        found = Lab(world, stack)
        try:
            yield found
        finally:
            found.close()
    finally:
        world.orchestrator("down", "--volumes", stack=stack)
        world.remove()


def test_delay_moves_its_own_place_by_that_much_and_no_other(lab: Lab) -> None:
    """Rounds of all delays in every place, in an order of chance: what the machine is busy
    with meets all alike. What is compared are lower quartiles, since a busy machine only adds."""
    seen: dict[tuple[str, int], list[dict[str, float]]] = {}
    turns = [(place, delay_ms) for place in PLACES for delay_ms in (0, *DELAYS_MS)]
    for kind in ("order", "product", *PLACES.values()):  # what is read is there, connections too
        lab.asker.ask(kind)
    wrong = ["nothing was asked"]
    with first_in_line(lab.world):
        for number in range(ROUNDS[1]):
            if number >= ROUNDS[0] and not wrong:
                break
            random.shuffle(turns)
            traces = {turn: lab.ask(*turn) for turn in turns}
            for turn, trace in traces.items():
                asked = lab.asker.told(trace)
                assert sum(asked.parts_ms.values()) == pytest.approx(asked.total_ms)
                assert asked.unattributed_ms == 0
                seen.setdefault(turn, []).append(asked.parts_ms)
            wrong = moved_otherwise(seen)
    assert wrong == []


def moved_otherwise(seen: dict[tuple[str, int], list[dict[str, float]]]) -> list[str]:
    """Parts whose time did not move as it was delayed."""

    def quartile(turn: tuple[str, int], part: str) -> float:
        return sorted(parts.get(part, 0.0) for parts in seen[turn])[len(seen[turn]) // 4]

    found = []
    for place, delay_ms in seen:
        for part in seen[place, 0][0]:
            wanted = delay_ms if part == place else 0
            moved = quartile((place, delay_ms), part) - quartile((place, 0), part)
            if abs(moved - wanted) > TOLERANCE_MS:
                found.append(f"{delay_ms} ms in {place}: {part} moved by {moved:.2f} ms")
    return found
