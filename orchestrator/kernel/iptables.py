"""Rules by iptables-save and iptables-restore: own chains, hooked from the built-in ones.

One restore call replaces each table's part of ours as a whole (`--noflush` leaves what is
not ours alone, `-w` waits for the xtables lock): iptables-restore(8).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import HostError, ResourceError
from orchestrator.linux import in_thread, inside

TIMEOUT_S = 20.0
PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"
COUNTED = re.compile(r"\[(\d+):(\d+)\] (-A .*)")


class Rule(Struct, frozen=True):
    """One rule of ours, in the order of words that iptables-save prints.

    `match` holds addresses, interfaces and protocol, `more` further match modules; the
    comment comes between them. `why` explains the rule to people.
    """

    table: str
    chain: str
    match: str
    more: str
    target: str
    comment: str
    why: str

    def line(self) -> str:
        words = [
            f"-A {self.chain}",
            self.match,
            self.more,
            self.comment and f'-m comment --comment "{self.comment}"',
            f"-j {self.target}",
        ]
        return " ".join(word for word in words if word)


class LiveRule(Struct, frozen=True):
    """One rule as the kernel has it, with its counters."""

    table: str
    line: str
    packets: int
    bytes: int


class Tables(Struct, frozen=True):
    """What iptables-save prints."""

    rules: tuple[LiveRule, ...]
    chains: dict[str, frozenset[str]]  # by table
    policies: dict[tuple[str, str], str]  # of built-in chains

    def lines(self, table: str) -> list[str]:
        return [rule.line for rule in self.rules if rule.table == table]


NO_TABLES = Tables((), {}, {})


def parse(text: str) -> Tables:
    """iptables-save -c output."""
    table, rules = "", []
    chains: dict[str, set[str]] = {}
    policies: dict[tuple[str, str], str] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
            chains[table] = set()
        elif line.startswith(":"):
            name, policy, *_ = line[1:].split()
            chains[table].add(name)
            if policy != "-":
                policies[table, name] = policy
        elif match := COUNTED.match(line):
            rules.append(LiveRule(table, match[3], int(match[1]), int(match[2])))
    return Tables(
        tuple(rules), {name: frozenset(names) for name, names in chains.items()}, policies
    )


def _run(
    program: str, arguments: Sequence[str], text: str | None = None, namespace: Path | None = None
) -> str:
    path = shutil.which(program, path=PATH)
    if path is None:
        raise HostError(f"{program} is not installed", mend="apt-get install iptables")
    with inside(namespace):
        done = subprocess.run(
            [path, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            process_group=0,  # Ctrl-C is for us alone: we go on to where nothing is half done
        )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ResourceError(program, "run", " ".join(reason))
    return done.stdout


async def save(namespace: Path | None = None) -> Tables:
    """All tables of the namespace, or of the lab's host. Raises ResourceError, HostError."""
    return parse(await in_thread(_run, "iptables-save", ["-c"], None, namespace))


async def restore(text: str, namespace: Path | None = None) -> None:
    """Carries out the changes, each table as a whole. Raises ResourceError, HostError."""
    await in_thread(restore_here, text, namespace)


def restore_here(text: str, namespace: Path | None = None) -> None:
    """The same from the calling thread, and where that is."""
    _run("iptables-restore", ["--noflush", "--wait", "10"], text, namespace)


@cache
def is_nft() -> bool:
    """Whether iptables here is the variant that keeps its rules in nf_tables."""
    path = shutil.which("iptables-restore", path=PATH)
    return path is not None and "nft" in Path(path).resolve().name
