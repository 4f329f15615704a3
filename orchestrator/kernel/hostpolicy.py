"""Rules on the lab's host for what services may reach there and outside, and strangers here.

They stand on the host because a service, whatever it does in its own namespace, cannot undo
them there. They are part of `nat:rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network

from msgspec import Struct

from orchestrator.kernel.iptables import Rule
from orchestrator.kernel.policy import Admission, admitted, closing, echo, standing


class Net(Struct, frozen=True):
    """A network as far as rules care."""

    bridge: str
    subnet: IPv4Network
    masquerade: bool
    address: IPv4Address  # the bridge's own


class Outbound(Struct, frozen=True):
    """What one service's address may reach outside, where that is not everything."""

    name: str
    bridge: str
    address: IPv4Address
    ports: tuple[tuple[str, int], ...]  # (protocol, port); none: nothing but ping


def host_rules(
    prefix: str, mark: str, nets: Sequence[Net], to_host: Sequence[Admission]
) -> Iterator[Rule]:
    """The host's own ports are closed to services, services' own addresses to strangers."""
    chain = f"{prefix}-IN"

    def rule(table: str, at: str, match: str, target: str, name: str, why: str) -> Rule:
        return Rule(table, at, match, "", target, f"{mark} {name}", why)

    def inside(match: str, more: str, target: str, name: str, why: str) -> Rule:
        return Rule("filter", chain, match, more, target, f"{mark} {name}", why)

    for net in nets:
        yield rule(
            "filter",
            "INPUT",
            f"-i {net.bridge}",
            chain,
            "hook-services",
            "First in INPUT, so that what services may reach on this host is judged by us "
            "whatever other rules say.",
        )
        yield rule(
            "filter",
            "INPUT",
            f"-d {net.address}/32 ! -i lo",
            chain,
            "hook-bridge",
            "A host answers on each of its addresses to everyone who knows the way: the "
            "bridge's is for its own network.",
        )
    for net in nets:
        yield rule(
            "raw",
            f"{prefix}-RAW",
            f"-i {net.bridge}",
            "RETURN",
            "own",
            "What comes from a network of this lab is judged in FORWARD, where answers are known.",
        )
    for net in nets:
        yield Rule(
            "raw",
            f"{prefix}-RAW",
            f"-d {net.subnet}",
            "-m addrtype ! --dst-type LOCAL",
            "DROP",
            f"{mark} strangers",
            "Nobody outside of this lab, another lab included, sends to a service's own address: "
            "the way in are published ports, which are redirected only after this.",
        )
    yield from standing(inside)
    for each in to_host:
        yield admitted(inside, each)
    yield from closing(inside)


def way_out(rule: Callable[..., Rule], chain: str, each: Outbound) -> Iterator[Rule]:
    """Stands before the rule that lets the network out."""
    way = f"-s {each.address}/32 -i {each.bridge} ! -o {each.bridge}"

    def here(match: str, more: str, target: str, name: str, why: str) -> Rule:
        return rule("filter", chain, f"{way} {match}".rstrip(), target, name, why, more)

    for protocol, port in each.ports:
        yield here(
            f"-p {protocol}",
            f"-m {protocol} --dport {port}",
            "ACCEPT",
            f"outbound-{each.name}-{port}/{protocol}",
            f"{each.name} may reach this port outside: its `outbound`.",
        )
    yield echo(here)
    yield from closing(here, f"outbound-{each.name}-")
