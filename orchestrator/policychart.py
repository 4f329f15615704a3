"""The policy as the kernel enforces it now: rules and counters of every place of a lab."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from orchestrator import linux
from orchestrator.app import App
from orchestrator.diagnosis.network import DENIALS, in_words
from orchestrator.drawing.policy import Chart, cell, refused
from orchestrator.drawing.rules import LIVE, UNWANTED, Row, rows
from orchestrator.flows import HOST, OUTSIDE, flows_of
from orchestrator.kernel import iptables, nftables
from orchestrator.kernel.guard import SAID, Guard
from orchestrator.kernel.iptables import NO_TABLES, Tables
from orchestrator.kernel.nat import Nat
from orchestrator.kernel.nftables import comment_of
from orchestrator.kernel.policy import Policy
from orchestrator.kernel.ruleset import RuleSet, target_of
from orchestrator.resource import State
from orchestrator.spec import Stack


async def chart_of(app: App) -> Chart:
    """Looks at every place at once. Raises ResourceError, HostError."""
    resources = [node.resource for node in app.nodes.values()]
    policies = [each for each in resources if isinstance(each, Policy)]
    nat = next(each for each in resources if isinstance(each, Nat))
    guard = next(each for each in resources if isinstance(each, Guard))
    here, *inside = await asyncio.gather(iptables.save(), *(_save(each) for each in policies))
    host = _rows(app, nat, here)
    into_host = [row for row in host if row.chain in (f"{nat.prefix}-IN", "INPUT")]
    found: dict[str, list[Row]] = {
        each.label: _rows(app, each, live) for each, live in zip(policies, inside, strict=True)
    }
    found[HOST] = into_host
    flows = flows_of(app.stack)
    order = list(found)
    flows.sort(key=lambda flow: (order.index(flow.target), flow.protocol, flow.port))
    cells = [
        cell(flow.source, flow.target, flow.port, flow.protocol, found[flow.target])
        for flow in flows
    ]
    looked_at: dict[str, tuple[Nat | Policy, Tables]] = {HOST: (nat, here)}
    for each, live in zip(policies, inside, strict=True):
        looked_at[each.label] = (each, live)
    kept_in = [row for row in host if row.name.startswith("outbound-") and "refused" in row.name]
    return Chart(
        places=(OUTSIDE, HOST, *(each.label for each in policies)),
        # Who shares no network cannot connect whatever is declared, so there is no rule.
        cells=tuple(each for each in cells if each.rules),
        refused=tuple(refused(target, each) for target, each in found.items()),
        outbound=_outbound(app.stack),
        outbound_refused=sum(row.packets for row in kept_in),
        strangers=sum(row.packets for row in host if row.name == "strangers"),
        spoofed=_spoofed(guard),
        guard="" if nftables.is_supported(nftables.BRIDGE) else SAID,
        open=tuple(
            place
            for place, (of_it, live) in looked_at.items()
            if _is_open(of_it, live, found[place])
        ),
        wrong=await _wrong(guard, looked_at.values()),
    )


def _is_open(rules: RuleSet, live: Tables, found: list[Row]) -> bool:
    """Whether somebody undeclared may pass: what refuses them is not in its place, or comes
    after something that may let them in. Not where a rule that lets somebody in is missing."""
    if live is NO_TABLES:
        return False  # there is no such namespace: nobody is let in
    refusing = [row for row in found if row.name.startswith(("hook", "refused"))]
    passed = rules.before_ours("INPUT", live)
    passed += [row.line for row in found if row.state == UNWANTED]
    may_pass = any(target_of(line) not in DENIALS for line in passed)
    return may_pass or any(row.state != LIVE for row in refusing)


async def _wrong(guard: Guard, places: Iterable[tuple[Nat | Policy, Tables]]) -> dict[str, str]:
    found = {}
    for rules, live in places:
        if wrong := rules.differences(live):
            found[rules.name] = in_words(wrong[0])
    seen = await guard.observe()
    if seen.state is not State.PRESENT:
        found[guard.name] = seen.detail or "is not there"
    return found


async def _save(policy: Policy) -> Tables:
    if not linux.is_namespace(policy.namespace):
        return NO_TABLES
    return await iptables.save(policy.namespace)


def _rows(app: App, rules: RuleSet, live: Tables) -> list[Row]:
    return rows(rules.wanted, live, rules.is_ours, app.lab.mark)


def _outbound(stack: Stack) -> dict[str, str]:
    found = {}
    for name, service in stack.services.items():
        if service.networks:
            goes_out = any(stack.networks[each].masquerade for each in service.networks)
            given = service.outbound if goes_out else "denied"
            listed = given if isinstance(given, str) else f"by {', '.join(given)}"
            found[stack.namespace_of(name)] = listed
    return found


def _spoofed(guard: Guard) -> dict[str, int]:
    content = None
    with contextlib.suppress(OSError):
        content = nftables.read(nftables.BRIDGE, guard.table)
    counts = {port.interface: 0 for port in guard.ports}
    for rule in content.rules if content else ():
        name = comment_of(rule.userdata).removeprefix(f"{guard.mark} ")
        if rule.chain in counts and name.startswith(("mac-", "spoofed-")):
            counts[rule.chain] += rule.packets
    return counts
