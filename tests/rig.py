"""A world for tests in namespaces: a host, an outside, and the orchestrator run on that host.

The "host" is a network namespace with an uplink to an "outside" namespace that stands for the
internet, both with addresses of 203.0.113.0/24 (RFC 5737). The root namespace is never used.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.kernel import nftables

ROOT = Path(__file__).parents[1]
SHOP = ROOT / "services" / "stack.yaml"
HOST_ADDRESS, OUTSIDE_ADDRESS = "203.0.113.2", "203.0.113.1"
TIMEOUT_S = 120.0
GROUPS = {"analyze", "secrets"}  # commands whose first word is a command of its own


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def ok(self) -> Done:
        assert self.code == 0, f"exit code {self.code}\n{self.text}"
        return self

    def json(self) -> Any:
        return json.loads(self.ok().out)

    def json_of_failure(self) -> Any:
        """Of a command that says with its exit code what it found."""
        return json.loads(self.out)


def run(
    *words: str | Path, timeout_s: float = TIMEOUT_S, env: dict[str, str] | None = None
) -> Done:
    """Runs a command to its end."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def sh(line: str) -> Done:
    """A shell line that must succeed."""
    return run("bash", "-ec", line).ok()


def eventually(check: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Returns when the check holds. Fails after the time, which is generous."""
    until = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.02)


def names_of_namespaces() -> list[str]:
    """What `ip netns list` shows, without ids."""
    return [line.split()[0] for line in run("ip", "netns", "list").ok().out.splitlines()]


@functools.cache
def shared_cache() -> Path:
    """For what is prepared: of this test run, not the machine's, which a user's labs find."""
    place = Path(tempfile.mkdtemp(prefix="orchestrator-cache-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@dataclass(frozen=True)
class World:
    """Host and outside, and how to run things there."""

    host: str
    outside: str
    state: Path
    run_dir: Path
    stack: Path = SHOP  # where no other one is named
    cache: Path = field(default_factory=shared_cache)

    @classmethod
    def build(cls, name: str, directory: Path) -> World:
        """A host with an uplink, a FORWARD policy of DROP, and other people's things on it."""
        world = cls(name, f"{name}-out", directory / "state", directory / "run")
        sh(f"""
            ip netns add {world.host}; ip netns add {world.outside}
            ip -n {world.host} link set lo up; ip -n {world.outside} link set lo up
            ip -n {world.host} link add wan0 type veth peer name eth0 netns {world.outside}
            ip -n {world.host} addr add {HOST_ADDRESS}/24 dev wan0
            ip -n {world.host} link set wan0 up
            ip -n {world.outside} addr add {OUTSIDE_ADDRESS}/24 dev eth0
            ip -n {world.outside} link set eth0 up
            ip -n {world.host} route add default via {OUTSIDE_ADDRESS}
            ip -n {world.host} link add br-foreign type bridge
            ip -n {world.host} addr add 10.77.0.1/24 dev br-foreign
            ip -n {world.host} link set br-foreign up
            ip -n {world.host} link add veth-foreign type veth peer name veth-foreign-br
            ip -n {world.host} link set veth-foreign-br master br-foreign
            ip -n {world.host} link set veth-foreign-br up
            ip -n {world.host} link set veth-foreign up
        """)
        for line in (
            "iptables -P FORWARD DROP",
            "iptables -N FOREIGN",
            "iptables -A FORWARD -s 10.77.0.0/24 -j FOREIGN",
            "iptables -A FOREIGN -j DROP",
            "iptables -t nat -N FOREIGN-NAT",
            "iptables -t nat -A POSTROUTING -s 10.77.0.0/24 -j FOREIGN-NAT",
            "iptables -t nat -A FOREIGN-NAT -j MASQUERADE",
        ):
            world.on_host(*shlex.split(line)).ok()
        # Carrier comes a moment after up; a fingerprint must not see it come.
        eventually(world.is_settled)
        return world

    def is_settled(self) -> bool:
        """Whether every link but lo has its carrier and says UP."""
        states = [line.split()[1] for line in self.on_host("ip", "-br", "link").out.splitlines()]
        return sorted(states) == ["UNKNOWN", *["UP"] * (len(states) - 1)]

    def remove(self) -> None:
        for name in (self.host, self.outside):
            run("ip", "netns", "delete", name)

    def on_host(self, *words: str | Path, timeout_s: float = TIMEOUT_S) -> Done:
        return run("ip", "netns", "exec", self.host, *words, timeout_s=timeout_s)

    def outside_(self, *words: str | Path) -> Done:
        return run("ip", "netns", "exec", self.outside, *words)

    def inside(self, service: str, *words: str | Path) -> Done:
        return run("ip", "netns", "exec", f"{self.host}.{service}", *words)

    def direct(self, *words: str | Path) -> Done:
        """In the tests' own namespace: for `ip netns`, which works from everywhere."""
        return run(*words)

    def words(self, *words: str | Path, stack: Path | None = None) -> list[str]:
        """The command line of the orchestrator on this host."""
        command, *rest = (str(word) for word in words)
        options = ["--host-netns", self.host, "--state-dir", str(self.state)]
        options += ["--run-dir", str(self.run_dir), "--stack", str(stack or self.stack)]
        options += ["--cache-dir", str(self.cache)]
        if command == "up" and "--supervise" not in rest:
            options.append("--no-supervise")  # tests break things and look at what is broken
        rest = [word for word in rest if word != "--supervise"]
        commands = [command, rest.pop(0)] if command in GROUPS else [command]
        return [sys.executable, "-m", "orchestrator", *commands, *options, *rest]

    def orchestrator(
        self, *words: str | Path, stack: Path | None = None, timeout_s: float = TIMEOUT_S
    ) -> Done:
        return run(*self.words(*words, stack=stack), timeout_s=timeout_s)

    def start(self, *words: str | Path, stack: Path | None = None) -> subprocess.Popen[str]:
        """The orchestrator in the background."""
        return subprocess.Popen(
            self.words(*words, stack=stack),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def curl(self, url: str, *options: str, where: str = "host") -> Done:
        """curl on the host, outside, or in a service's namespace."""
        words = ["curl", "-sS", "--max-time", "10", *options, url]
        if where == "host":
            return self.on_host(*words)
        if where == "outside":
            return self.outside_(*words)
        return self.inside(where, *words)

    def node_states(self, *, stack: Path | None = None) -> dict[str, str]:
        rows = self.orchestrator("status", "--json", stack=stack).json()["nodes"]
        return {row["node"]: row["state"] for row in rows}

    def fingerprint(self) -> dict[str, Sequence[str]]:
        """Everything of a host that a lab could leave a trace in, without counters."""

        def lines(*words: str) -> list[str]:
            return sorted(line.strip() for line in self.on_host(*words).ok().out.splitlines())

        rules = [
            re.sub(r"\[\d+:\d+\]", "", line)
            for line in self.on_host("iptables-save").ok().out.splitlines()
            if not line.startswith("#")
        ]
        ours = re.compile(rf"{self.host}\b")  # x1, and not x15
        moving = ("net.ipv4.tcp", "net.netfilter.nf_conntrack_count")  # change by themselves
        return {
            "links": lines("ip", "-o", "link"),
            "addresses": lines("ip", "-o", "-4", "addr"),
            "routes": lines("ip", "-4", "route", "show", "table", "all"),
            "rules": rules,
            "bridge rules": nftables.tables(nftables.BRIDGE, Path("/run/netns", self.host)),
            "sysctls": [
                line for line in lines("sysctl", "-a", "-r", "^net") if not line.startswith(moving)
            ],
            "namespaces": sorted(filter(ours.match, names_of_namespaces())),
            "mounts": sorted(
                place
                for line in Path("/proc/self/mountinfo").read_text().splitlines()
                if ours.search(place := line.split()[4]) or f"{self.run_dir}/" in f"{place}/"
            ),
            "processes": sorted(self.sandboxes()),
            "groups": sorted(
                str(path)
                for depth in ("", "*/")  # version 2 has one hierarchy, version 1 several
                for path in Path("/sys/fs/cgroup").glob(f"{depth}orchestrator/*@{self.host}/*")
            ),
            "etc": sorted(str(path) for path in Path("/etc/netns").glob(f"{self.host}.*/*")),
        }

    def sandboxes(self) -> list[str]:
        """Command lines of processes that carry a mark of a lab on this host."""
        return [words for _, words in self.marked("")]

    def sandbox_pids(self, service: str) -> list[int]:
        """A service's processes that carry its mark: the waiter and all inside."""
        return [pid for pid, _ in self.marked(f"service:{service}\0")]

    def kill(self, service: str) -> None:
        """Kills all of a service's processes."""
        for pid in self.sandbox_pids(service):
            with contextlib.suppress(ProcessLookupError):  # one's end ends others
                os.kill(pid, signal.SIGKILL)

    def marked(self, node: str) -> list[tuple[int, str]]:
        """Processes with the mark of a node, or of nodes that begin so, and their command lines."""
        mark = f"@{self.host}/{node}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes()
                if b"ORCHESTRATOR_MARK=" in environment and mark in environment:
                    words = (path / "cmdline").read_bytes().split(b"\0")
                    found.append((int(path.name), b" ".join(words).decode(errors="replace")))
            except OSError:
                continue
        return found
