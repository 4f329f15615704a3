"""`make endurance`: up and down again and again; nothing may grow but the journal, which is told.

Counts of the whole machine (namespaces, kernel memory) are shown; what belongs to the lab's
host must be exactly as before after every `down`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from names import next_name
from rig import SHOP, World, run

ENDING = ("TIME_WAIT", "CLOSE", "LAST_ACK", "FIN_WAIT", "icmp", "udp")


@dataclass(frozen=True, slots=True)
class Traces:
    """What one cycle could leave behind."""

    host: dict[str, object]  # links, addresses, routes, rules, sysctls, names, processes, mounts
    conntrack: int  # entries that would last: those of closed connections go in two minutes
    run_files: int
    state_files: int  # without data, which belongs to the services, and logs put aside
    journal_bytes: int
    slab_kb: int

    @classmethod
    def of(cls, world: World) -> Traces:
        entries = world.on_host("cat", "/proc/net/nf_conntrack").out.splitlines()
        state = [path for path in world.state.rglob("*") if "data" not in path.parts]
        journals = list(world.state.glob("*/journal.jsonl*"))
        slab = next(
            int(line.split()[1])
            for line in Path("/proc/meminfo").read_text().splitlines()
            if line.startswith("SUnreclaim:")
        )
        return cls(
            host=dict(world.fingerprint()),
            conntrack=sum(not any(state in line for state in ENDING) for line in entries),
            run_files=len(list(world.run_dir.rglob("*"))) if world.run_dir.exists() else 0,
            state_files=len([path for path in state if path not in journals]),
            journal_bytes=sum(path.stat().st_size for path in journals),
            slab_kb=slab,
        )


def endure(world: World, cycles: int) -> tuple[list[Traces], list[str]]:
    """Traces after each `down`, and what was found growing or left."""
    before = world.fingerprint()
    found: list[Traces] = []
    for number in range(cycles):
        world.orchestrator("up").ok()
        world.orchestrator("down").ok()
        found.append(Traces.of(world))
        sys.stderr.write(f"cycle {number + 1} of {cycles}\n")
    wrong = []
    for number, each in enumerate(found, start=1):
        left = [kind for kind in before if before[kind] != each.host[kind]]
        if left:
            wrong.append(f"cycle {number} left traces in {', '.join(left)}")
        if each.run_files:
            wrong.append(f"cycle {number} left {each.run_files} files in the run directory")
        if each.state_files != found[0].state_files:
            wrong.append(f"cycle {number}: {each.state_files} files in the state directory")
        if each.conntrack > found[0].conntrack:
            wrong.append(f"cycle {number}: {each.conntrack} conntrack entries")
    return found, wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="make endurance")
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--stack", type=Path, default=SHOP)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        built = World.build(next_name(), directory)
        world = World(built.host, built.outside, built.state, built.run_dir, given.stack.resolve())
        names = len(run("ip", "netns", "list").out.splitlines())
        try:
            found, wrong = endure(world, given.cycles)
        finally:
            world.orchestrator("down", "--volumes")
            world.remove()
        now = len(run("ip", "netns", "list").out.splitlines())
    first, last = found[0], found[-1]
    per_cycle = (last.journal_bytes - first.journal_bytes) / max(1, len(found) - 1)
    print(f"{len(found)} cycles; network namespaces of the machine: {names} before, {now} after")
    print(f"journal: {last.journal_bytes} bytes, {per_cycle:.0f} a cycle")
    print(f"files in the state directory: {first.state_files} → {last.state_files}")
    print(f"conntrack entries that last: {first.conntrack} → {last.conntrack}")
    print(f"kernel memory (SUnreclaim, whole machine): {first.slab_kb} → {last.slab_kb} kB")
    for text in wrong:
        print(f"WRONG: {text}")
    print(f"{len(wrong)} traces left")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
