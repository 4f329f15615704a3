"""A process on a world's host that builds a network, proves it, and removes it.

Prints milliseconds as JSON: of the run that built and of the run that removed.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import sys
from ipaddress import IPv4Address
from pathlib import Path

from orchestrator.app import App
from orchestrator.commands.target import Target
from orchestrator.events import Outcome, Record, RunFinished, RunStarted

ANSWER_S, ATTEMPTS = 1.5, 10


class Stopwatch:
    """The time from a run's first event to its last."""

    def __init__(self) -> None:
        self.begun_ns, self.ended_ns = 0, 0

    def __call__(self, record: Record) -> None:
        if isinstance(record.event, RunStarted):
            self.begun_ns = record.mono_ns
        elif isinstance(record.event, RunFinished):
            self.ended_ns = record.mono_ns
            assert record.event.outcome is Outcome.CHANGED, record.event

    @property
    def ms(self) -> float:
        return (self.ended_ns - self.begun_ns) / 1e6


def unreachable(addresses: list[IPv4Address]) -> list[IPv4Address]:
    """Those that do not answer. Nobody listens there: a refusal is the namespace's answer.

    Asked again, since the kernel has one neighbour table for all namespaces, with room for
    1,024 (arp(7), gc_thresh3): while it is full, who is new is not found.
    """
    for _ in range(ATTEMPTS):
        addresses = [address for address in addresses if not _answers(address)]
    return addresses


def _answers(address: IPv4Address) -> bool:
    with socket.socket() as client:
        client.settimeout(ANSWER_S)
        return client.connect_ex((str(address), 9)) == errno.ECONNREFUSED


def left_over(app: App, before: set[str]) -> list[str]:
    """Links and names of namespaces that were not there before."""
    links = set(app.compiler.netlink.snapshot().links) - before
    return [*links, *(str(path) for path in Path("/run/netns").glob(f"{app.lab.host}.*"))]


def main() -> None:
    stack, host, state, run = sys.argv[1:]
    app = Target(Path(stack), host, Path(state), Path(run)).enter()
    addresses = [
        attachment.address
        for service in app.stack.services.values()
        for attachment in service.networks.values()
    ]
    before = set(app.compiler.netlink.snapshot().links)
    build, remove = Stopwatch(), Stopwatch()
    with asyncio.Runner() as runner:
        runner.run(app.up([build], complain=sys.exit))
        lost = unreachable(addresses)
        runner.run(app.down([remove], volumes=True, complain=sys.exit))
    assert not lost, f"no answer from {lost}"
    left = left_over(app, before)
    assert not left, f"left: {left}"
    sys.stdout.write(json.dumps({"build": build.ms, "remove": remove.ms}))


if __name__ == "__main__":
    main()
