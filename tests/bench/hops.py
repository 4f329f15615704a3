"""What one packet costs on its way from service to service, step by step.

A message goes to and fro between two sockets of one process, so that nothing is measured but
the kernel's way: no other process is woken, and none has to be waited for.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from names import next_name
from rig import ROOT, World, run, sh

from bench.rows import Row, Section, text
from orchestrator.linux import NETNS_DIR, inside
from orchestrator.privatehost import BRIDGE_FILTER

STACK = """
name: hops
networks: {br-app: {address: 10.0.0.1/16}}
services:
  one: {networks: {br-app: 10.0.0.30}}
  two: {networks: {br-app: 10.0.0.50}}
  three: {networks: {br-app: 10.0.0.60}, outbound: denied}
  four: {networks: {br-app: 10.0.0.70}, outbound: denied}
flows:
  - {from: one, to: two, ports: [6379/tcp], why: measured}
  - {from: three, to: four, ports: [6379/tcp], why: measured}
"""
TARGET, DENIED_TARGET, PORT = "10.0.0.50", "10.0.0.70", 6379
MESSAGE = b"x" * 200
CALLS, COLD_CALLS = 200, 40  # of one turn
EVICTED = 1 << 20  # bytes: about what a core has for itself
ROUND_S = 4.0
BARE, LOCAL = "loopback, no rules", "loopback, its namespace's policy"
VETH, BRIDGE = "a veth pair", "two veth pairs and the bridge"
GUARD, ALL = "bridge, guard at the port", "bridge, guard, policies: all of a lab"
DENIED = "the same, services without `outbound`"
FILTERED = "all of it where br_netfilter is on"
NOTE = (
    f"A message of {len(MESSAGE)} bytes, to and fro over one TCP connection, both ends in one "
    "process; a packet is half of that less the same over a loopback without rules, system calls "
    "and TCP itself thus left out. Turns in an order by lot, medians. Everything is in the "
    "processor's caches, as it is not beside the services; cold is with a MB copied before each "
    "packet, and the time of sending alone, which goes as far as the receiver's queue. A GET of "
    "the shop takes eight packets over the bridge. Over its loopback a packet passes the same "
    "policy. br_netfilter, which sends bridged frames through the host's iptables too, is off on a "
    "host that the lab has made itself, and on wherever Docker has asked for it."
)


class Call:
    """One connection, from one namespace to another or to itself."""

    _copy, _other = (ctypes.create_string_buffer(EVICTED) for _ in range(2))

    def __init__(self, source: Path, target: Path, address: str) -> None:
        with inside(target):
            listener = socket.create_server((address, PORT))
        with listener:
            with inside(source):
                self._client = socket.create_connection((address, PORT))
            self._server, _ = listener.accept()
        for each in (self._client, self._server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def turn_us(self) -> float:
        """Time of one call. It waits for nobody, so that is processor time."""
        ask, answered = self._client.send, self._client.recv
        asked, answer = self._server.recv, self._server.send
        begun_ns = time.perf_counter_ns()
        for _ in range(CALLS):
            ask(MESSAGE)
            asked(len(MESSAGE))
            answer(MESSAGE)
            answered(len(MESSAGE))
        return (time.perf_counter_ns() - begun_ns) / CALLS / 1e3

    def cold_us(self) -> float:
        """The same, with other things in the processor's caches before each packet. Of the calls
        a quarter, the slowest, is left out: those that an interrupt fell into."""
        each = sorted(
            self._cold_ns(self._client, self._server) + self._cold_ns(self._server, self._client)
            for _ in range(COLD_CALLS)
        )
        kept = each[: COLD_CALLS * 3 // 4]
        return sum(kept) / len(kept) / 1e3

    def _cold_ns(self, source: socket.socket, target: socket.socket) -> int:
        ctypes.memmove(self._copy, self._other, EVICTED)
        begun_ns = time.perf_counter_ns()
        source.send(MESSAGE)
        sent_ns = time.perf_counter_ns()
        target.recv(len(MESSAGE))
        return sent_ns - begun_ns


@contextlib.contextmanager
def lab(directory: Path, *without: str, has_filter: bool = False) -> Iterator[World]:
    """Two services that do nothing, without some kinds of rules."""
    home = directory / "-".join(("lab", *without, str(has_filter)))
    home.mkdir(mode=0o755)
    stack = home / "stack.yaml"
    stack.write_text(STACK)
    world = dataclasses.replace(World.build(next_name(), home), stack=stack)
    try:
        if Path("/proc/sys", *BRIDGE_FILTER.split(".")).exists():
            world.on_host("sysctl", "-qw", f"{BRIDGE_FILTER}={int(has_filter)}").ok()
        world.orchestrator("up").ok()
        if without:
            switch = f"{sys.executable} -m bench.flowrules {stack} {world.host}"
            line = f"echo off {' '.join(without)} | {switch}"
            world.on_host("env", f"PYTHONPATH={ROOT}:{ROOT / 'tests'}", "sh", "-c", line).ok()
        yield world
    finally:
        world.orchestrator("down", "--volumes")
        world.remove()


@contextlib.contextmanager
def pair() -> Iterator[tuple[Path, Path]]:
    """Two namespaces with nothing but a veth pair between them."""
    names = next_name(), next_name()
    one, two = names
    try:
        sh(f"""
            for each in {one} {two}; do ip netns add $each; ip -n $each link set lo up; done
            ip -n {one} link add eth0 type veth peer name eth0 netns {two}
            ip -n {one} addr add 10.0.0.30/16 dev eth0; ip -n {one} link set eth0 up
            ip -n {two} addr add {TARGET}/16 dev eth0; ip -n {two} link set eth0 up
        """)
        yield NETNS_DIR / one, NETNS_DIR / two
    finally:
        for name in names:
            run("ip", "netns", "delete", name)


def between(world: World, source: str, target: str, address: str) -> Call:
    return Call(*(NETNS_DIR / f"{world.host}.{name}" for name in (source, target)), address)


def measure(rounds: int) -> Section:
    """The part of `make bench`."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as up:
        home = Path(directory)
        home.chmod(0o755)
        one, two = up.enter_context(pair())
        whole = up.enter_context(lab(home))
        local = NETNS_DIR / f"{whole.host}.two"
        ways = "one", "two", TARGET
        calls = {
            BARE: Call(one, one, "127.0.0.1"),
            LOCAL: Call(local, local, "127.0.0.1"),
            VETH: Call(one, two, TARGET),
            BRIDGE: between(up.enter_context(lab(home, "guard", "policy")), *ways),
            GUARD: between(up.enter_context(lab(home, "policy")), *ways),
            ALL: between(whole, *ways),
            DENIED: between(whole, "three", "four", DENIED_TARGET),
            FILTERED: between(up.enter_context(lab(home, has_filter=True)), *ways),
        }
        here = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(here)})
        try:
            hot, cold = zip(*(_round(calls) for _ in range(rounds)), strict=True)
        finally:
            os.sched_setaffinity(0, here)
    rows = [
        Row(f"a packet{how}: {name}", [(each[name] - each[BARE]) / 2 for each in found], "µs")
        for how, found in (("", hot), (", cold", cold))
        for name in calls
        if name != BARE
    ]
    return Section("From service to service", rows, [NOTE])


def _round(calls: Mapping[str, Call]) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of µs a call, hot and cold."""
    return _medians(calls, Call.turn_us), _medians(calls, Call.cold_us)


def _medians(calls: Mapping[str, Call], turn: Callable[[Call], float]) -> dict[str, float]:
    turns: dict[str, list[float]] = {name: [] for name in calls}
    until = time.monotonic() + ROUND_S
    while time.monotonic() < until:
        for name in random.sample([*calls], len(calls)):
            turns[name].append(turn(calls[name]))
    return {name: statistics.median(them) for name, them in turns.items()}


if __name__ == "__main__":
    sys.stdout.write(text([measure(3)]))
