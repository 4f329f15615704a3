"""Our firewall rules as the live tables have them, in the order in which packets meet them."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.drawing.svg import printable
from orchestrator.kernel.iptables import LiveRule, Rule, Tables
from orchestrator.kernel.nat import Publication

# The way of a packet through the tables that we use: netfilter's priorities of its hooks.
WAY = (
    ("raw", "PREROUTING"),
    ("nat", "PREROUTING"),
    ("nat", "OUTPUT"),
    ("filter", "INPUT"),
    ("filter", "FORWARD"),
    ("nat", "POSTROUTING"),
)
LIVE, MISSING, UNWANTED, MOVED = "live", "missing", "unwanted", "out of order"
COMMENT = re.compile(r' ?-m comment --comment (?:"((?:[^"\\]|\\.)*)"|(\S+))')
KIB = 1024
WHY_WIDTH, WAY_WIDTH = 80, 96


class Row(Struct, frozen=True):
    """One rule: what is live, what is wanted, or both."""

    table: str
    chain: str
    state: str
    packets: int
    bytes: int
    name: str
    rule: str
    line: str
    why: str
    before: int = 0  # of a hook: how many rules of others a packet meets before it


def rows(
    wanted: Sequence[Rule], live: Tables, is_ours: Callable[[str, str], bool], mark: str
) -> list[Row]:
    """Every rule of ours, wanted or live, in the order in which packets meet them."""
    ours = [rule for rule in live.rules if is_ours(rule.table, rule.line)]
    found: list[Row] = []
    for table, chain in _chains(wanted, ours):
        want = [rule for rule in wanted if (rule.table, rule.chain) == (table, chain)]
        have = [rule for rule in ours if (rule.table, _chain(rule.line)) == (table, chain)]
        others = [line for line in live.lines(table) if _chain(line) == chain]
        for row in _merged(want, have, mark):
            place = others.index(row.line) if row.line in others else 0
            before = sum(not is_ours(table, line) for line in others[:place])
            found.append(replace(row, before=before))
    return found


def _chain(line: str) -> str:
    return line.split()[1]


def _target(line: str) -> str:
    return line.split(" -j ")[-1].split()[0] if " -j " in line else ""


def _chains(wanted: Sequence[Rule], live: Sequence[LiveRule]) -> list[tuple[str, str]]:
    """Tables and chains on a packet's way; a chain of ours after all that lead into it."""
    lines = [(rule.table, rule.line()) for rule in wanted]
    lines += [(rule.table, rule.line) for rule in live]
    there = dict.fromkeys((table, _chain(line)) for table, line in lines)
    led = {(table, _target(line)) for table, line in lines}
    found = [each for each in WAY if each in there]
    found += [each for each in there if each not in WAY and each not in led]
    for entry in [each for each in there if each in led]:
        sources = [(t, _chain(line)) for t, line in lines if (t, _target(line)) == entry]
        last = max((found.index(each) for each in sources if each in found), default=len(found) - 1)
        found.insert(last + 1, entry)
    return found


def _merged(want: Sequence[Rule], have: Sequence[LiveRule], mark: str) -> Iterator[Row]:
    """One chain: live rules in their order, missing ones where they should be."""
    lines, found = [rule.line() for rule in want], [rule.line for rule in have]
    why = {rule.line(): rule.why for rule in want}
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(
        None, lines, found, autojunk=False
    ).get_opcodes():
        for rule in want[i1:i2] if tag in ("delete", "replace") else ():
            if rule.line() not in found:
                yield _row(rule.table, rule.line(), MISSING, 0, 0, rule.why, mark)
        for each in have[j1:j2]:
            state = LIVE if tag == "equal" else MOVED if each.line in lines else UNWANTED
            text = why.get(each.line, "")
            yield _row(each.table, each.line, state, each.packets, each.bytes, text, mark)


def _row(table: str, line: str, state: str, packets: int, size: int, why: str, mark: str) -> Row:
    match = COMMENT.search(line)
    comment = (match[1] or match[2] or "") if match else ""
    _, chain, *_ = line.split()
    rule = COMMENT.sub("", line).removeprefix(f"-A {chain} ")
    name = comment.removeprefix(f"{mark} ") if comment.startswith(f"{mark} ") else comment
    return Row(table, chain, state, packets, size, name, rule, line, why)


def human_bytes(count: int) -> str:
    """`0 B`, `3.6 KiB`, `1.2 GiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < KIB:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= KIB
    return f"{size:.1f} TiB"


def human_count(count: int) -> str:
    """`999`, `12.3 k`, `4.5 M`."""
    size = float(count)
    for unit in ("", " k", " M", " G"):
        if size < 1000:
            return f"{size:.0f}{unit}" if not unit or size >= 100 else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.1f} T"


def as_text(found: Sequence[Row], live: Tables, *, explain: bool) -> str:
    """Chain by chain: packets, bytes, name, rule; with `explain` each rule's reason below it."""
    width = max((len(row.name) for row in found), default=0)
    lines: list[str] = []
    at = ("", "")
    for row in found:
        if (row.table, row.chain) != at:
            at = (row.table, row.chain)
            policy = live.policies.get(at, "")
            end = f" (policy {policy})" if policy else ""
            lines += ["", f"{row.table} {row.chain}{end}"]
        counters = f"{human_count(row.packets):>7} {human_bytes(row.bytes):>9}"
        if row.state == MISSING:
            counters = f"{'✗ missing':>17}"
        wrong = f"   ✗ {row.state}" if row.state in (UNWANTED, MOVED) else ""
        lines.append(f"{counters}  {row.name:{width}}  {row.rule}{wrong}")
        if row.before:
            lines.append(f"{'':19}{'':{width}}  met after {row.before} rules of others")
        if explain:
            indent = " " * (width + 21)
            why = textwrap.wrap(row.why, WHY_WIDTH, break_on_hyphens=False)
            lines += [indent + line for line in why]
    return "\n".join(printable(line).rstrip() for line in lines[1:]) + "\n"


class Flow(Struct, frozen=True):
    """How one kind of client comes to a published port: rules by (table, end of chain, name)."""

    client: str
    steps: tuple[tuple[str, str, str], ...]
    outcome: str


def flows(port: Publication) -> tuple[Flow, ...]:
    """The four ways to a published port, each the rules that its first packet meets."""
    guard, publish = ("raw", "PREROUTING", "hook"), f"publish-{port.host_port}"
    redirect = ("nat", "-PRE", publish)
    through = (("filter", "FORWARD", "hook"), ("filter", "-FWD", publish))
    leave = ("nat", "POSTROUTING", "hook")
    arrive = ("nat", "PREROUTING", "hook-clients")
    here = ("nat", "OUTPUT", "hook-host")
    return (
        Flow(
            "a client outside",
            (guard, arrive, redirect, *through, leave),
            "arrives with the client's own address",
        ),
        Flow(
            "this host, by its address",
            (here, redirect, leave),
            "arrives with the host's address",
        ),
        Flow(
            "localhost",
            (here, redirect, leave, ("nat", "-POST", "localhost")),
            "arrives with the bridge's address",
        ),
        Flow(
            f"a service on {port.bridge} (hairpin)",
            (
                guard,
                arrive,
                redirect,
                *through,
                leave,
                ("nat", "-POST", f"hairpin-{port.host_port}"),
            ),
            "arrives with the bridge's address",
        ),
    )


def flows_text(ports: Sequence[Publication], found: Sequence[Row]) -> str:
    """For each published port and kind of client, the rules on the way in their order."""
    lines: list[str] = []
    for port in ports:
        lines.append(f"port {port.host_port} → {port.address}:{port.port} on {port.bridge}")
        for flow in flows(port):
            steps = [_step(step, port, found).replace(" ", "\xa0") for step in flow.steps]
            way = textwrap.wrap(" → ".join(steps), WAY_WIDTH, break_on_hyphens=False)
            lines.append(f"  {flow.client}: {flow.outcome}")
            lines += [f"    {line}".replace("\xa0", " ") for line in way]
    if lines:
        lines += [
            "  (a connection's first packet meets nat; later ones only raw and filter, where",
            "  `answers` and `outbound` let them through)",
        ]
    return "".join(f"{printable(line)}\n" for line in lines)


def _step(step: tuple[str, str, str], port: Publication, found: Sequence[Row]) -> str:
    table, end, name = step
    for row in found:
        if row.table == table and row.chain.endswith(end) and row.name == name:
            if name == "localhost" and f"-o {port.bridge} " not in f"{row.rule} ":
                continue
            mark = "" if row.state == LIVE else f" ✗ {row.state}"
            return f"{table} {end.removeprefix('-')} {name}{mark}"
    return f"{table} {end.removeprefix('-')} {name} ✗ missing"
