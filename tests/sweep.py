"""The crash sweep: SIGKILL at journal boundaries, then `up` must serve and `down` leave nothing.

`python sweep.py` tries every boundary of up, down and replays, several commands at once, each
in a world of its own; it goes on after a failure and lists all of them. Tests try a sample.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from names import next_name
from rig import ROOT, World, run

COMMANDS = ("up", "down", "bridge", "veths", "nat", "data", "services", "gateway", "edge")

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


def crash(world: World, stack: Path, command: str, at: int) -> bool:
    """Runs the command until it dies at the n-th record. False if it ended before."""
    words = [command, str(at), world.host, str(world.state), str(world.run_dir), str(stack)]
    done = run(sys.executable, ROOT / "tests" / "crash.py", *words, env={"PYTHONPATH": str(ROOT)})
    assert done.code in (0, -9), done.text
    return done.code == -9


def try_point(world: World, stack: Path, decoys: Decoys, command: str, at: int) -> bool:
    """One crash and what must hold after it. False if the command has no n-th record."""
    before = world.fingerprint()
    if command != "up":
        world.orchestrator("up", stack=stack).ok()
    crashed = crash(world, stack, command, at)
    world.orchestrator("up", stack=stack).ok()
    world.curl("http://localhost:8080/", "--fail").ok()
    assert set(world.node_states(stack=stack).values()) == {"ready"}
    if crash(world, stack, "down", at):  # and a `down` that dies at the same place
        assert decoys.are_untouched()
    world.orchestrator("down", "--volumes", stack=stack).ok()
    after = world.fingerprint()
    assert after == before, {
        kind: (set(before[kind]) ^ set(after[kind]))
        for kind in before
        if before[kind] != after[kind]
    }
    assert decoys.are_untouched()
    return crashed


@contextmanager
def place() -> Iterator[tuple[World, Path, Decoys]]:
    """A fresh world with its stack file and decoys; taken away afterwards, whatever happened."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        stack = Path(directory, "stack.yaml")
        stack.write_text(STACK)
        world = World.build(next_name(), Path(directory))
        decoys = Decoys.set_up(world)
        try:
            yield world, stack, decoys
        finally:
            decoys.remove()
            world.orchestrator("down", "--volumes", stack=stack)
            world.remove()


def sweep(command: str) -> tuple[int, list[str]]:
    """Every boundary of one command: how many there were, and what went wrong at which."""
    failures: list[str] = []
    points = itertools.count()
    at = next(points)
    while True:
        # A failure may leave anything behind, so the points after it get another world.
        with place() as (world, stack, decoys):
            try:
                while try_point(world, stack, decoys, command, at):
                    at = next(points)
                    if at % 10 == 0:
                        sys.stderr.write(f"{command}: {at} points\n")
                return at, failures
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failures.append(f"{command} at {at}: {error}")
                sys.stderr.write(f"FAILED {failures[-1]}\n")
                at = next(points)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make sweep")
    parser.add_argument("--jobs", type=int, default=2, help="commands tried at the same time")
    parser.add_argument("commands", nargs="*", default=COMMANDS, help=", ".join(COMMANDS))
    given = parser.parse_args()
    with ThreadPoolExecutor(given.jobs) as pool:
        results = list(pool.map(sweep, given.commands))
    points = sum(count for count, _ in results)
    failures = [text for _, found in results for text in found]
    for text in failures:
        print(text)
    if failures:
        sys.exit(f"{points} crash points, {len(failures)} of them failed")
    print(f"{points} crash points, 0 leaked, 0 foreign objects changed")


if __name__ == "__main__":
    main()
