"""The crash sweep: SIGKILL at journal boundaries, then `up` must serve and `down` leave nothing.

`python sweep.py` tries every boundary of up, down, replays and a healing, several commands at
once, each in a world of its own; it goes on after a failure and lists all of them. `--part 2/5`
tries every fifth boundary from the second on. `--instants 100` kills at random instants instead,
in the middle of a step too. Tests try a sample.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from names import next_name
from rig import Done, World, run
from warm import CRASH, Warm

COMMANDS = (
    *("up", "down", "change", "heal"),
    *("bridge", "veths", "nat", "data", "services", "gateway", "edge"),
)

STACK = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
secrets: [word]
services:
  web:
    layer: edge
    networks: {br-app: 10.0.0.10}
    command: [python, -m, http.server, "80", --directory, /stack]
    ports: ["8080:80"]
    needs: [cache, init]
    secrets: [word]
    readiness: {tcp: 80}
  gate:
    layer: gateway
    networks: {br-app: 10.0.0.20}
    command: [sleep, "1000"]
  worker:
    networks: {br-app: 10.0.0.30}
    command: [sleep, "1000"]
    needs: {cache: started}
  cache:
    layer: data
    networks: {br-app: 10.0.0.40}
    command: [sleep, "1000"]
    data: [/data]
jobs:
  init: {of: cache, network: false, command: [touch, /data/done], creates: /data/done}
checks:
  front: {gate: true, steps: [{url: "http://localhost:8080/"}]}
"""


def changed(stack: str) -> str:
    """With a service less and another command: `up` has to take away and to mend."""
    without, _, rest = stack.partition("  worker:\n")
    rest = rest[rest.index("  cache:\n") :]
    return (without + rest).replace('[sleep, "1000"]', '[sleep, "2000"]', 1)


@dataclass
class Decoys:
    """What stands beside and looks alike: a process with the same command line, a namespace
    with the prefix of ours. The world's own foreign bridge, veths and chains stand there too."""

    world: World
    process: subprocess.Popen[bytes]

    @classmethod
    def set_up(cls, world: World) -> Decoys:
        run("ip", "netns", "add", f"{world.host}.decoy").ok()
        words = ["ip", "netns", "exec", f"{world.host}.decoy", "sleep", "1000"]
        return cls(world, subprocess.Popen(words))

    def are_untouched(self) -> bool:
        listed = run("ip", "netns", "list").ok().out
        return self.process.poll() is None and f"{self.world.host}.decoy" in listed

    def remove(self) -> None:
        self.process.kill()
        self.process.wait()
        run("ip", "netns", "delete", f"{self.world.host}.decoy")


@dataclass(frozen=True)
class Place:
    """A world with its stack file, decoys, and an orchestrator that need not be started."""

    world: World
    stack: Path
    decoys: Decoys
    warm: Warm

    def orchestrator(self, *words: str) -> Done:
        return self.warm.run(self.world.words(*words, stack=self.stack))[0]

    def crash(self, command: str, kill: str) -> bool:
        """Runs the command until it dies: at the n-th record (`7`) or after so many seconds
        (`0.25s`). False if it ended before."""
        world = self.world
        words = [command, kill, world.host, str(world.state), str(world.run_dir), str(self.stack)]
        done = self.warm.run([sys.executable, CRASH, *words])[0]
        assert done.code in (0, -signal.SIGKILL, -signal.SIGALRM), done.text
        return done.code != 0


@contextmanager
def place(directory: Path) -> Iterator[Place]:
    """A fresh one; taken away afterwards, whatever happened."""
    directory.chmod(0o755)
    stack = directory / "stack.yaml"
    world = World.build(next_name(), directory)
    found = Place(world, stack, Decoys.set_up(world), Warm())
    try:
        yield found
    finally:
        found.decoys.remove()
        stack.write_text(STACK)
        found.orchestrator("down", "--volumes")
        found.warm.close()
        world.remove()


def begin(place: Place, command: str) -> None:
    """Brings the lab to where the command has something to do."""
    place.stack.write_text(STACK)
    if command != "up":
        place.orchestrator("up").ok()
    if command == "change":
        place.stack.write_text(changed(STACK))
    if command == "heal":
        place.world.on_host("ip", "link", "delete", "veth-web-br").ok()
        place.world.on_host("ip", "link", "set", "br-app", "down").ok()
        for pid in place.world.sandbox_pids("cache"):
            with suppress(ProcessLookupError):  # the first one's end ends the others
                os.kill(pid, signal.SIGKILL)


def try_point(place: Place, command: str, kill: str) -> bool:
    """One crash and what must hold after it. False if the command ended before."""
    world = place.world
    before = world.fingerprint()
    begin(place, command)
    crashed = place.crash(command, kill)
    place.orchestrator("up").ok()
    world.curl("http://localhost:8080/", "--fail").ok()
    rows = place.orchestrator("status", "--json").json()["nodes"]
    assert {row["state"] for row in rows} == {"ready"}, rows
    if place.crash("down", kill):  # and a `down` that dies at the same place
        assert place.decoys.are_untouched()
    place.orchestrator("down", "--volumes").ok()
    after = world.fingerprint()
    assert after == before, {
        kind: set(before[kind]) ^ set(after[kind]) for kind in before if before[kind] != after[kind]
    }
    assert place.decoys.are_untouched()
    return crashed


def boundaries(place: Place, command: str, part: Part) -> Iterator[str]:
    """Every record of the command, as far as it is of the part; without end."""
    yield from map(str, itertools.count(part.number - 1, part.of))


def instants(place: Place, command: str, part: Part, *, count: int, seed: int) -> Iterator[str]:
    """So many random moments of the command's duration, in the middle of a step too."""
    begin(place, command)
    begun = time.monotonic()
    place.crash(command, "1000s")
    duration_s = time.monotonic() - begun
    place.orchestrator("down", "--volumes").ok()
    rng = random.Random(f"{seed} {command}")
    chosen = [f"{rng.uniform(0, duration_s):.4f}s" for _ in range(count)]
    yield from chosen[part.number - 1 :: part.of]


@dataclass(frozen=True)
class Part:
    """`2/5`: the second of five parts."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        number, of = map(int, text.split("/"))
        if not 1 <= number <= of:
            raise ValueError(text)
        return cls(number, of)


def sweep(
    command: str, points: Callable[[Place, str], Iterator[str]], *, all_: bool
) -> tuple[int, list[str]]:
    """Every point of one command: how many there were, and what went wrong at which.

    `all_`: a point that comes after the command's end is one too, not the end of all.
    """
    failures: list[str] = []
    count = 0
    kills: Iterator[str] | None = None
    while True:
        # A failure may leave anything behind, so the points after it get another world.
        with tempfile.TemporaryDirectory() as directory, place(Path(directory)) as here:
            kills = kills or points(here, command)
            kill = ""
            try:
                for kill in kills:
                    if not try_point(here, command, kill) and not all_:
                        return count, failures
                    count += 1
                    if count % 10 == 0:
                        sys.stderr.write(f"{command}: {count} points\n")
                return count, failures
            except (AssertionError, subprocess.TimeoutExpired) as error:
                count += 1
                failures.append(f"{command} at {kill}: {error}")
                sys.stderr.write(f"FAILED {failures[-1]}\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make sweep")
    parser.add_argument("--jobs", type=int, default=2, help="commands tried at the same time")
    parser.add_argument("--part", type=Part.parse, default=Part(1, 1), help="e.g. 2/5")
    parser.add_argument("--instants", type=int, help="so many random moments of each command")
    parser.add_argument("--seed", type=int, default=7, help="of the random moments")
    parser.add_argument("commands", nargs="*", default=COMMANDS, help=", ".join(COMMANDS))
    given = parser.parse_args()
    points = partial(boundaries, part=given.part)
    if given.instants:
        points = partial(instants, part=given.part, count=given.instants, seed=given.seed)
    with ThreadPoolExecutor(given.jobs) as pool:
        work = partial(sweep, points=points, all_=bool(given.instants))
        results = list(pool.map(work, given.commands))
    for command, (count, found) in zip(given.commands, results, strict=True):
        print(f"{command}: {count} points, {len(found)} failed")
    count = sum(count for count, _ in results)
    failures = [text for _, found in results for text in found]
    for text in failures:
        print(text)
    if failures:
        sys.exit(f"{count} crash points, {len(failures)} of them failed")
    print(f"{count} crash points, 0 leaked, 0 foreign objects changed")


if __name__ == "__main__":
    main()
