"""From ready to known to be ready: services say when they listen, the journal when it is known."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import yaml
from names import next_name
from rig import World

SERVICES = 5
# Listens after a while of its own, and says when: CLOCK_MONOTONIC is one for the whole host.
PROGRAM = """
import socket, sys, time
time.sleep(float(sys.argv[1]))
listening = socket.create_server(("0.0.0.0", 80))
print(time.monotonic_ns(), flush=True)
while True: listening.accept()
"""


def p99_ms(rounds: int) -> list[float]:
    """Of each round the 99th percentile over services that nothing pushes, by TCP alone."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        stack = Path(directory, "stack.yaml")
        stack.write_text(yaml.safe_dump(_stack()))
        world = World.build(next_name(), Path(directory))
        try:
            return [_p99_ms(world, stack) for _ in range(rounds)]
        finally:
            world.orchestrator("down", "--volumes", stack=stack)
            world.remove()


def _stack() -> dict[str, object]:
    return {
        "name": "lag",
        "networks": {"br-app": {"address": "10.0.0.1/16"}},
        "services": {
            f"s{number}": {
                "networks": {"br-app": f"10.0.1.{number + 1}"},
                "command": ["python", "-c", PROGRAM, str(0.4 + 0.137 * number)],
                "readiness": {"tcp": 80},
            }
            for number in range(SERVICES)
        },
    }


def _p99_ms(world: World, stack: Path) -> float:
    world.orchestrator("up", stack=stack).ok()
    lab = world.state / f"lag@{world.host}"
    known = {}
    for line in (lab / "journal.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "GateChecked" and record["passed"]:
            known[record["node"]] = record["mono_ns"]
    lags = []
    for number in range(SERVICES):
        log = next(lab.rglob(f"s{number}.log"))
        ready_ns = int(log.read_text().split()[-1])
        lags.append((known[f"service:s{number}"] - ready_ns) / 1e6)
    world.orchestrator("down", "--volumes", stack=stack).ok()
    return statistics.quantiles(lags, n=100, method="inclusive")[98]
