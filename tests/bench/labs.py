"""Labs that are up, for measuring requests."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from names import next_name
from rig import ROOT, World

from bench import cpu, turns
from orchestrator.privatehost import BRIDGE_FILTER

PAGE = "/api/products"  # what is asked for
STOCK = 1_000_000_000  # enough for every order


@dataclass
class Lab:
    """A platform that is up."""

    world: World
    observers: list[int]  # their process ids
    database: str  # the namespace that PostgreSQL lives in

    @contextlib.contextmanager
    def awake(self, *, is_observed: bool) -> Iterator[None]:
        """The observers are at work for the length of the block, if they are to."""
        if is_observed:
            self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)

    def signal(self, number: int) -> None:
        for pid in self.observers:
            os.kill(pid, number)

    @contextlib.contextmanager
    def flow_rules(self) -> Iterator[Callable[[str], None]]:
        """Turns the rules that let only declared flows pass `on` or `off`."""
        words = ("-m", "bench.flowrules", self.world.stack, self.world.host)
        inside = ("ip", "netns", "exec", self.world.host, sys.executable)
        with subprocess.Popen(
            [str(word) for word in (*inside, *words)],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as switch:

            def turn(verb: str) -> None:
                print(verb, file=switch.stdin, flush=True)
                if switch.stdout is None or switch.stdout.readline() != f"{verb}\n":
                    raise SystemExit(f"flow rules: not {verb}")

            yield turn

    def bridge_only(self) -> None:
        """Frames from service to service pass no iptables of the host, as where nobody has
        loaded br_netfilter. A new namespace of a kernel that has it built in has it on."""
        if Path("/proc/sys", *BRIDGE_FILTER.split(".")).exists():
            self.world.on_host("sysctl", "-qw", f"{BRIDGE_FILTER}=0").ok()

    def client(self, namespace: str, host: str, port: int) -> turns.Client:
        return turns.Client(Path("/run/netns", namespace), host, port, PAGE)

    def sql(self, statement: str) -> str:
        """As the database's superuser, beside the database."""
        (secret,) = self.world.state.glob("*/secrets/postgres-password")
        words = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "shop", "-Atc", statement]
        password = f"PGPASSWORD={secret.read_text()}"
        return self.world.inside(self.database, "env", password, *words).ok().out.strip()


@dataclass(frozen=True)
class Elsewhere(World):
    """A world whose orchestrator and services are those of another checkout."""

    checkout: Path = Path()

    def words(self, *words: str | Path, stack: Path | None = None) -> list[str]:
        there = ["env", "-C", str(self.checkout), f"PYTHONPATH={self.checkout}"]
        return [
            *there,
            *super().words(*words, stack=stack or self.checkout / "services/stack.yaml"),
        ]


@contextlib.contextmanager
def lab(
    directory: Path,
    name: str,
    variant: Callable[[Path], Path],
    *,
    is_observed: bool = False,
    database: str = "postgres-db",
    checkout: Path | None = None,
) -> Iterator[Lab]:
    """A variant that is up, with stock for every order and its observers asleep."""
    home = directory / name
    home.mkdir(mode=0o755)
    world = World.build(next_name(), home)
    if checkout is None:
        world = dataclasses.replace(world, stack=variant(home / "services"))
    else:
        world = Elsewhere(**vars(world), checkout=checkout)
    try:
        world.orchestrator("up", *(["--supervise"] if is_observed else [])).ok()
        observers = []
        if is_observed:
            supervisor = world.orchestrator("status", "--json").json()["supervisor"]
            observers = [supervisor, *cpu.pids_inside(world, "prometheus")]
        found = Lab(world, observers, database)
        found.bridge_only()
        found.sql(f"UPDATE products SET stock = {STOCK}")
        found.signal(signal.SIGSTOP)
        try:
            yield found
        finally:
            found.signal(signal.SIGCONT)
    finally:
        world.orchestrator("down", "--volumes")
        world.remove()
