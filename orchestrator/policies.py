"""The rules that a stack asks for: on the lab's host, and in each of its namespaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from orchestrator.flows import HOST, OUTSIDE, TCP, Flow, flows_of
from orchestrator.kernel.encoding import Encoder
from orchestrator.kernel.guard import Guard, Port
from orchestrator.kernel.hostpolicy import Net, Outbound
from orchestrator.kernel.iptables import Rule
from orchestrator.kernel.nat import Nat, Publication, rules
from orchestrator.kernel.policy import Admission, Policy, policy_rules
from orchestrator.lab import Lab
from orchestrator.linux import NETNS_DIR
from orchestrator.resource import Emit
from orchestrator.spec import PORT_SIDE, Stack


def nets_of(stack: Stack) -> list[Net]:
    return [
        Net(name, network.address.network, network.masquerade, network.address.ip)
        for name, network in stack.networks.items()
    ]


def publications_of(stack: Stack) -> list[Publication]:
    return [
        Publication(port.host, network, attachment.address, port.service)
        for name, service in stack.services.items()
        for port in service.ports
        for network, attachment in list(stack.services[stack.home_of(name)].networks.items())[:1]
    ]


def outbound_of(stack: Stack) -> list[Outbound]:
    """Addresses that may not reach everything outside."""
    return [
        Outbound(stack.namespace_of(name), network, attachment.address, _ports(service.outbound))
        for name, service in stack.services.items()
        if service.outbound != "allowed"
        for network, attachment in service.networks.items()
    ]


def _ports(outbound: str | tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    if isinstance(outbound, str):
        return ()
    parts = [each.partition("/") for each in outbound]
    return tuple((protocol, int(port)) for port, _, protocol in parts)


def host_rules_of(stack: Stack, lab: Lab) -> tuple[Rule, ...]:
    """Every rule of ours on the lab's host."""
    to_host = [
        admission
        for flow in flows_of(stack)
        if flow.target == HOST
        for admission in _to_host(stack, flow)
    ]
    return tuple(
        rules(
            lab.chain_prefix,
            lab.mark,
            nets_of(stack),
            publications_of(stack),
            outbound=outbound_of(stack),
            to_host=to_host,
        )
    )


def guard_of(stack: Stack, lab: Lab, emit: Emit) -> Guard:
    """What each port of a bridge may send."""
    ports = [
        Port(inner + PORT_SIDE, stack.namespace_of(name), lab.mac(inner), attachment.address)
        for name, service in stack.services.items()
        for network, attachment in service.networks.items()
        for inner in [stack.interface_of(name, network)]
    ]
    return Guard(lab.chain_prefix, lab.mark, tuple(ports), emit)


def rules_of(stack: Stack, lab: Lab, memory: Path) -> tuple[Nat, list[Policy]]:
    """The rules of the host and of each namespace, with one encoder for all."""
    host = host_rules_of(stack, lab)
    inside = namespace_rules_of(stack, lab)
    everything = [rule for rules in (host, *inside.values()) for rule in rules]
    encoder = Encoder(lab.chain_prefix, everything)
    policies = [
        Policy(lab.chain_prefix, wanted, label, NETNS_DIR / lab.namespace(label), encoder)
        for label, wanted in inside.items()
    ]
    return Nat(lab.chain_prefix, host, memory, encoder), policies


def namespace_rules_of(stack: Stack, lab: Lab) -> dict[str, tuple[Rule, ...]]:
    """The rules in each namespace."""
    flows = flows_of(stack)
    found: dict[str, tuple[Rule, ...]] = {}
    for name, service in stack.services.items():
        if not service.networks:
            continue
        label = stack.namespace_of(name)
        admissions = [
            admission
            for flow in flows
            if flow.target == label
            for admission in _admissions(stack, name, flow)
        ]
        tracked = _is_tracked(stack, name, flows)
        made = policy_rules(lab.chain_prefix, lab.mark, admissions, is_tracked=tracked)
        found[label] = tuple(made)
    return found


def _is_tracked(stack: Stack, home: str, flows: Sequence[Flow]) -> bool:
    """Whether answers can come that are neither TCP's nor a ping's: to what is asked by UDP."""
    label, outbound = stack.namespace_of(home), stack.services[home].outbound
    return (
        outbound == "allowed"
        or any(protocol != TCP for protocol, _ in _ports(outbound))
        or any(flow.source == label and flow.protocol != TCP for flow in flows)
    )


def _admissions(stack: Stack, home: str, flow: Flow) -> Iterator[Admission]:
    """The flow on each link of the namespace by which it can come."""
    for network in stack.services[home].networks:
        interface = stack.interface_of(home, network)
        bridge = stack.networks[network].address
        if flow.source == OUTSIDE:
            yield _admission(flow, interface, bridge.network, others=True)
            break  # published ports lead to the first link
        if flow.source == HOST:
            yield _admission(flow, interface, IPv4Network(bridge.ip))
            continue
        attachment = stack.services[_home(stack, flow.source)].networks.get(network)
        if attachment is not None:
            yield _admission(flow, interface, IPv4Network(attachment.address))


def _to_host(stack: Stack, flow: Flow) -> Iterator[Admission]:
    for network, attachment in stack.services[_home(stack, flow.source)].networks.items():
        yield _admission(flow, network, IPv4Network(attachment.address))


def _home(stack: Stack, namespace: str) -> str:
    """The service that declares the networks of a namespace."""
    return next(
        name
        for name, service in stack.services.items()
        if service.networks and stack.namespace_of(name) == namespace
    )


def _admission(
    flow: Flow, interface: str, source: IPv4Network, *, others: bool = False
) -> Admission:
    return Admission(
        name=f"from-{flow.source}-{flow.port}/{flow.protocol}",
        interface=interface,
        source=source,
        protocol=flow.protocol,
        port=flow.port,
        why=f"{flow.source} may connect to port {flow.port}: {'; '.join(flow.reasons)}.",
        others=others,
    )
