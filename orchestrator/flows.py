"""The only connections that can be made: read off needs, probes, published ports and flows. Pure.

A flow is between places, since that is what an address tells apart: a namespace with all the
services in it, the lab's host, or the outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from msgspec import Struct

from orchestrator.spec import Service, Stack

HOST, OUTSIDE = "host", "outside"
TCP = "tcp"
HTTP_PORT = 80


class Flow(Struct, frozen=True):
    """Connections that may be made, and what in the stack file says so."""

    source: str  # a namespace, HOST or OUTSIDE
    target: str  # a namespace or HOST
    port: int
    protocol: str
    reasons: tuple[str, ...]


def declared_ports(service: Service) -> tuple[int, ...]:
    """Every port of its own that the stack file names; all of them TCP."""
    ready = service.readiness
    given = [service.listen.port if service.listen else None, ready.tcp]
    given += [probe.port for probe in (ready.http, ready.postgres, ready.redis) if probe]
    given += [port.service for port in service.ports]
    return tuple(dict.fromkeys(port for port in given if port))


def flows_of(stack: Stack) -> list[Flow]:
    """Every flow of the stack, the host's first, then in the order of the file."""
    found: dict[tuple[str, str, int, str], list[str]] = {}
    for source, target, port, protocol, reason in _declarations(stack):
        if source != target:
            reasons = found.setdefault((source, target, port, protocol), [])
            if reason not in reasons:
                reasons.append(reason)
    return [Flow(*key, tuple(reasons)) for key, reasons in found.items()]


def _declarations(stack: Stack) -> Iterator[tuple[str, str, int, str, str]]:
    for name, service in stack.services.items():
        here = stack.namespace_of(name)
        for published in service.ports:
            reason = f"port {published.host} of the host is published as {name}'s"
            yield OUTSIDE, here, published.service, TCP, reason
        for port in declared_ports(service):
            yield HOST, here, port, TCP, f"the host asks whether {name} is well"
    yield from _checked(stack)
    for name, process in {**stack.services, **stack.jobs}.items():
        home = stack.namespace_of(stack.jobs[name].of if name in stack.jobs else name)
        for need in process.needs:
            called = stack.jobs[need].of if need in stack.jobs else need
            for port in declared_ports(stack.services[called]):
                yield home, stack.namespace_of(called), port, TCP, f"{name} needs {need}"
    for flow in stack.flows:
        for source in flow.sources:
            for target in flow.targets:
                wanted = flow.ports or [
                    f"{port}/{TCP}" for port in declared_ports(stack.services[target])
                ]
                for each in wanted:
                    number, _, protocol = each.partition("/")
                    reason = flow.why or f"declared: {source} to {target}"
                    ends = (place_of(stack, source), place_of(stack, target))
                    yield *ends, int(number), protocol, reason


def _checked(stack: Stack) -> Iterator[tuple[str, str, int, str, str]]:
    """What checks ask at a service's own address, without a published port between."""
    places = {
        str(attachment.address): stack.namespace_of(name)
        for name, service in stack.services.items()
        for attachment in service.networks.values()
    }
    for name, check in stack.checks.items():
        for step in check.steps:
            url = urlsplit(step.url)
            if place := places.get(url.hostname or ""):
                yield HOST, place, url.port or HTTP_PORT, TCP, f"check {name} asks there"


def place_of(stack: Stack, name: str) -> str:
    """The namespace of a service; the host stands for itself."""
    return HOST if name == HOST else stack.namespace_of(name)
