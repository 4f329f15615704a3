"""`make bench`: the targets and what this machine does, side by side; writes docs/benchmarks.md.

Every ratio is taken within one run, ours and the baseline in turn. Nothing here is an
assertion: a busy machine is no failure.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from rig import ROOT

from bench import engine, hops, network, requests, resident, startup
from bench.rows import Part, Row, Section, markdown, text

# In the order of the report. Each measures in namespaces of its own and leaves nothing behind.
PARTS: dict[str, Part] = {
    "network": network.measure,
    "startup": startup.measure,
    "requests": requests.measure,
    "hops": hops.measure,
    "engine": engine.measure,
    "resident": resident.measure,
}
ROUNDS = 4
HEAD = """# Benchmarks

Made by `make bench`, not typed: {date}, {cores} cores ({processor}), Linux {kernel}, Python
{python}, {rounds} rounds. Ratios are taken round by round within this run, ours and the baseline
in turn; figures of another machine differ, their ratios much less. The spread is from the lowest
to the highest round.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, help="only these parts; docs/benchmarks.md stays"
    )
    given = parser.parse_args()
    sections: list[Section] = []
    for name in given.only or PARTS:
        begun = time.monotonic()
        try:
            section = PARTS[name](given.rounds)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the others are measured
            reason = f"{type(error).__name__}: {error}"
            section = Section(name, [Row(name, [], "", missing=" ".join(reason.split()))])
        sections.append(section)
        sys.stderr.write(f"{name}: measured in {time.monotonic() - begun:.0f} s\n")
        sys.stdout.write(text([section]))
        sys.stdout.flush()
    if not given.only:
        document = head(given.rounds) + markdown(sections)
        Path(ROOT, "docs", "benchmarks.md").write_text(document, encoding="utf-8")


def head(rounds: int) -> str:
    return HEAD.format(
        date=time.strftime("%-d %B %Y", time.gmtime()),
        cores=os.cpu_count(),
        processor=_processor(),
        kernel=platform.release().split("-")[0],
        python=platform.python_version(),
        rounds=rounds,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()


if __name__ == "__main__":
    main()
