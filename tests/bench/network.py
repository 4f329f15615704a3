"""Networks of 6, 100 and 900 namespaces: built, proven to reach each one, and removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from names import next_name
from rig import World, run

from bench.rows import Row, Section, at_most, ratio

HERE = Path(__file__).parent
PYTHON_OF_DEBIAN = "/usr/bin/python3"  # the one that Debian's packages are for

METHOD = (
    "From the first event of the run to the last, journal included, in a process of its own. "
    "Every namespace has answered before it is removed; afterwards no link and no name is left."
)


def measure(rounds: int) -> Section:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        ours: dict[str, list[float]] = {"build": [], "remove": []}
        shell: dict[str, list[float]] = {"build": [], "remove": []}
        mininet: dict[str, list[float]] = {"build": [], "remove": []}
        has_mininet = run(PYTHON_OF_DEBIAN, "-c", "import mininet.net").code == 0
        for _ in range(rounds):  # in turn: what slows the machine down slows all of them
            _add(ours, _build(Path(directory), 6))
            _add(shell, _shell())
            if has_mininet:
                _add(mininet, _mininet())
        hundred = [_build(Path(directory), 100) for _ in range(rounds)]
        many = _build(Path(directory), 900)
    six = Row("network of six", ours["build"], "ms", at_most(40))
    removed = Row("removing the six, nothing left", ours["remove"], "ms", at_most(80))
    by_shell = Row("the textbook's shell commands", shell["build"], "ms")
    rows = [six, by_shell, ratio("ours ÷ shell commands", six, by_shell, at_most(1 / 6))]
    notes = [METHOD]
    if has_mininet:
        by_mininet = Row("Mininet, Linux bridge and NAT", mininet["build"], "ms")
        rows += [by_mininet, ratio("ours ÷ Mininet", six, by_mininet, at_most(1 / 3))]
    else:
        notes.append("Mininet is left out: not installed (`./bootstrap.sh --bench` does).")
    rows += [removed, Row("the same by shell commands", shell["remove"], "ms")]
    if has_mininet:
        rows.append(Row("the same by Mininet", mininet["remove"], "ms"))
    of_100 = Row("network of 100", [each["build"] for each in hundred], "ms", at_most(450))
    of_900 = Row("network of 900", [many["build"]], "ms")
    rows += [
        of_100,
        of_900,
        Row(
            "per namespace: 900 ÷ 100 (1: linear)",
            [of_900.median / 900 / (of_100.median / 100)],
            "×",
            at_most(1.25),
        ),
        Row("removing 100", [each["remove"] for each in hundred], "ms"),
        Row("removing 900", [many["remove"]], "ms"),
    ]
    return Section("Network", rows, notes)


def _add(to: dict[str, list[float]], found: dict[str, float]) -> None:
    for key, value in found.items():
        to[key].append(value)


def stack(count: int) -> dict[str, Any]:
    """So many namespaces on one bridge, one with a published port, and nothing that runs."""
    services: dict[str, Any] = {
        f"s{number}": {"networks": {"br-app": f"10.0.{number // 200 + 1}.{number % 200 + 1}"}}
        for number in range(count)
    }
    services["s0"]["ports"] = ["8080:80"]
    return {
        "name": "net",
        "networks": {"br-app": {"address": "10.0.0.1/16"}},
        "services": services,
    }


def _build(directory: Path, count: int) -> dict[str, float]:
    """One round of ours, in a process and on a host of its own."""
    file = directory / f"{count}.yaml"
    file.write_text(yaml.safe_dump(stack(count)))
    world = World.build(next_name(), directory)
    try:
        words = [HERE / "builder.py", file, world.host, world.state, world.run_dir]
        return _json(sys.executable, *words)
    finally:
        world.orchestrator("down", "--volumes", stack=file)  # nothing to do, if all went well
        world.remove()


def _shell() -> dict[str, float]:
    """One round of the shell commands."""
    world = World.build(next_name(), Path("/nonexistent"))
    try:
        found = {}
        for key, verb in (("build", "up"), ("remove", "down")):
            begun = time.perf_counter()
            run(*_there(world), "bash", HERE / "seed.sh", verb, world.host).ok()
            found[key] = (time.perf_counter() - begun) * 1e3
        return found
    finally:
        world.remove()


def _mininet() -> dict[str, float]:
    world = World.build(next_name(), Path("/nonexistent"))
    try:
        return _json(*_there(world), PYTHON_OF_DEBIAN, HERE / "mininet_six.py")
    finally:
        world.remove()


def _there(world: World) -> list[str]:
    """On the host without `ip netns exec`: its mount namespace would hide new names."""
    return ["nsenter", f"--net=/run/netns/{world.host}"]


def _json(*words: str | Path) -> dict[str, float]:
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found
