"""What of a stack this host can run: services whose program is not installed are left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from msgspec.structs import replace

from orchestrator.spec import Flow, Job, Service, Stack, When

P = TypeVar("P", Service, Job)


def leave_out(stack: Stack, is_installed: Callable[[str], bool]) -> tuple[Stack, dict[str, When]]:
    """The stack without services whose program is absent, and the reason of each.

    With a service go what shares its namespace, its jobs, and checks that need it. Whoever else
    needs it lives without: the need is dropped.
    """
    absent = {
        name: service.when
        for name, service in stack.services.items()
        if service.when is not None and not any(map(is_installed, service.when.programs))
    }
    if not absent:
        return stack, {}
    for name in stack.services:
        if (home := stack.home_of(name)) in absent:
            absent.setdefault(name, replace(absent[home], otherwise=""))
    jobs = {name: job for name, job in stack.jobs.items() if job.of not in absent}
    gone = {*absent, *(name for name in stack.jobs if name not in jobs)}
    services = {name: each for name, each in stack.services.items() if name not in absent}
    checks = {name: each for name, each in stack.checks.items() if not gone & {*each.needs}}
    part = replace(
        stack,
        services={name: _without(each, gone) for name, each in services.items()},
        jobs={name: _without(each, gone) for name, each in jobs.items()},
        checks=checks,
        flows=tuple(left for flow in stack.flows if (left := _flow_without(flow, absent))),
    )
    return part, absent


def _without(process: P, gone: Collection[str]) -> P:
    needs = {name: given for name, given in process.needs.items() if name not in gone}
    return replace(process, needs=needs) if needs != process.needs else process


def _flow_without(flow: Flow, gone: Collection[str]) -> Flow | None:
    sources = tuple(name for name in flow.sources if name not in gone)
    targets = tuple(name for name in flow.targets if name not in gone)
    if not sources or not targets:
        return None
    return replace(flow, sources=sources, targets=targets)


def words(left_out: Mapping[str, When]) -> list[str]:
    """A line for each service that is left out."""
    return [
        f"{name}: left out, {' or '.join(when.programs)} is not installed"
        + (f"; {when.otherwise}" if when.otherwise else "")
        for name, when in left_out.items()
    ]
