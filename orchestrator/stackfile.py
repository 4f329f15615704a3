"""The stack file's text to a valid `Stack`, or to every problem in it with its line; no I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from pydantic import ValidationError

from orchestrator import readiness as models
from orchestrator import schema, spec
from orchestrator.document import Path, dotted, line_of, parse
from orchestrator.errors import Problem, SpecError
from orchestrator.fields import Model
from orchestrator.flows import HOST, OUTSIDE, declared_ports
from orchestrator.formproblems import problems_of
from orchestrator.lab import IFNAMSIZ
from orchestrator.needs import find_circle
from orchestrator.spec import PORT_SIDE, Condition, Network, Process, Readiness, Stack

Complain = Callable[[Path, str], None]


def parse_stack(text: str, file: str) -> Stack:
    """The stack in the text. Raises SpecError with every problem found, each with its line."""
    data, lines = parse(text, file)
    if not isinstance(data, dict):
        raise SpecError(file, [Problem("(file)", 1, "must be a mapping with name, networks, …")])
    try:
        model = schema.Stack.model_validate(data)
    except ValidationError as error:
        raise SpecError(file, problems_of(error, lines)) from error
    stack: Stack = plain(model)
    problems = sorted(_relations(stack, model, lines), key=lambda problem: problem.line)
    if problems:
        raise SpecError(file, problems)
    if circle := find_circle(need_graph(stack)):
        first = circle[0]
        kind = "services" if first in stack.services else "jobs"
        line = line_of((kind, first, "needs"), lines)
        text_ = "needs form a circle: " + " → ".join(circle)
        raise SpecError(file, [Problem(f"{kind}.{first}.needs", line, text_)])
    return stack


def plain(value: Any) -> Any:
    """The value without the models that it was read by: those of spec.py in their place."""
    if isinstance(value, Model):
        kind: type[Struct] = getattr(spec, type(value).__name__)
        return kind(**{name: plain(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def need_graph(stack: Stack) -> dict[str, set[str]]:
    """Who needs whom, among services and jobs."""
    graph = {name: set(service.needs) for name, service in stack.services.items()}
    graph |= {name: set(job.needs) for name, job in stack.jobs.items()}
    return graph


def json_schema() -> dict[str, Any]:
    """The stack file's JSON Schema (draft 2020-12) for editors."""
    found = schema.Stack.model_json_schema(by_alias=True)
    for model in ("Service", "Job"):
        needs = found["$defs"][model]["properties"]["needs"]
        names = {"type": "array", "items": {"type": "string"}}
        needs["anyOf"] = [
            {key: needs.pop(key) for key in ("type", "additionalProperties") if key in needs},
            names,
        ]
        needs.pop("propertyNames", None)
    _allow_shorthand(found, "Attachment")
    _allow_shorthand(found, "PublishedPort")
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "orchestrator stack"
    return found


def _allow_shorthand(found: dict[str, Any], model: str) -> None:
    """A plain string is allowed where the model takes one (`10.0.0.10`, `8080:80`)."""
    found["$defs"][model] = {"anyOf": [{"type": "string"}, found["$defs"][model]]}


def _relations(stack: Stack, model: schema.Stack, lines: dict[Path, int]) -> list[Problem]:
    """What no single value can tell: clashes and references."""
    problems: list[Problem] = []

    def complain(path: Path, message: str) -> None:
        problems.append(Problem(dotted(path), line_of(path, lines), message))

    _check_networks(stack, complain)
    _check_attachments(stack, complain)
    _check_ports(stack, complain)
    _check_path(stack, complain)
    _check_references(stack, complain)
    _check_flows(stack, model, complain)
    return problems


def _check_networks(stack: Stack, complain: Complain) -> None:
    seen: list[tuple[str, Network]] = []
    for name, network in stack.networks.items():
        path = ("networks", name)
        if len(name) > IFNAMSIZ:
            complain(path, f"bridge name is {len(name)} characters long, {IFNAMSIZ} are allowed")
        subnet = network.address.network
        if subnet.prefixlen > 30:
            complain((*path, "address"), f"{subnet} has no room for a service")
        elif network.address.ip in (subnet.network_address, subnet.broadcast_address):
            complain((*path, "address"), f"{network.address.ip} is no host address in {subnet}")
        if not subnet.is_private or subnet.is_loopback or subnet.is_link_local:
            complain((*path, "address"), f"{subnet} must be a private subnet (RFC 1918)")
        for other_name, other in seen:
            if subnet.overlaps(other.address.network):
                complain((*path, "address"), f"{subnet} overlaps with network {other_name}")
        seen.append((name, network))


def _check_attachments(stack: Stack, complain: Complain) -> None:
    taken = {str(network.address.ip): f"bridge {name}" for name, network in stack.networks.items()}
    interfaces: dict[str, str] = dict.fromkeys(stack.networks, "a network")
    homes: dict[str, str] = {}
    for name, service in stack.services.items():
        namespace = stack.namespace_of(name)
        if service.networks:
            if namespace in homes:
                here = ("services", name, "networks")
                complain(here, f"namespace {namespace} already has those of {homes[namespace]}")
            homes.setdefault(namespace, name)
        for network, attachment in service.networks.items():
            path: Path = ("services", name, "networks", network)
            if network not in stack.networks:
                complain(path, f"unknown network; known: {', '.join(stack.networks)}")
                continue
            subnet = stack.networks[network].address.network
            address = attachment.address
            if address not in subnet:
                complain(path, f"{address} is outside the network's subnet {subnet}")
            elif address in (subnet.network_address, subnet.broadcast_address):
                complain(path, f"{address} is no host address in {subnet}")
            if owner := taken.get(str(address)):
                complain(path, f"{address} is already the address of {owner}")
            taken.setdefault(str(address), name)
            inner = stack.interface_of(name, network)
            limit = IFNAMSIZ - len(PORT_SIDE)
            if len(inner) > limit:
                complain(
                    path,
                    f"interface name {inner} is {len(inner)} characters long; with {PORT_SIDE} "
                    f"for the bridge's end it must fit in {IFNAMSIZ}, so {limit} are allowed",
                )
            for link in (inner, inner + PORT_SIDE):
                if owner := interfaces.get(link):
                    complain(path, f"interface name {link} is already used by {owner}")
                interfaces.setdefault(link, name)
    for name in stack.services:
        if stack.namespace_of(name) not in homes:
            complain(("services", name), "has no network: give networks, or another's namespace")


def _check_ports(stack: Stack, complain: Complain) -> None:
    taken: dict[int, str] = {}
    for name, service in stack.services.items():
        for index, port in enumerate(service.ports):
            path = ("services", name, "ports", index)
            if owner := taken.get(port.host):
                complain(path, f"host port {port.host} is already published by {owner}")
            taken.setdefault(port.host, name)


def _check_path(stack: Stack, complain: Complain) -> None:
    logging = [name for name, service in stack.services.items() if service.path_log is not None]
    for name in logging[1:]:
        complain(("services", name, "path_log"), f"only one edge is read, and {logging[0]} is it")
    probe = stack.supervision.probe
    if probe is not None and probe not in stack.checks:
        complain(("supervision", "probe"), f"there is no check {probe}")


def _check_references(stack: Stack, complain: Complain) -> None:
    known = {**dict.fromkeys(stack.services, "services"), **dict.fromkeys(stack.jobs, "jobs")}
    secrets = set(stack.secrets)
    for name, job in stack.jobs.items():
        if name in stack.services:
            complain(("jobs", name), "a service has the same name")
        if job.of not in stack.services:
            complain(("jobs", name, "of"), f"unknown service {job.of}")
            continue
        data = stack.services[job.of].data
        if job.prepared and not job.creates:
            complain(("jobs", name, "prepared"), "only for a job that creates something")
        if job.creates and not any(job.creates.startswith(f"{root}/") for root in data):
            complain(("jobs", name, "creates"), f"must lie in a data directory of {job.of}")
        if job.rotation == "lost" and name not in stack.services[job.of].needs:
            reason = f"such a job is run before its service: {job.of} must need it"
            complain(("jobs", name, "rotation"), reason)
    processes: list[tuple[str, str, Process]] = [
        *(("services", name, service) for name, service in stack.services.items()),
        *(("jobs", name, job) for name, job in stack.jobs.items()),
    ]
    for kind, name, process in processes:
        for need, condition in process.needs.items():
            path: Path = (kind, name, "needs", need)
            if need not in known:
                complain(path, f"unknown need; known: {', '.join(known)}")
            elif condition in (None, Condition.BESIDE):
                if condition and kind == "jobs":
                    complain(path, "a job is ready when it has ended: it cannot run beside a need")
            elif (condition is Condition.COMPLETED) != (need in stack.jobs):
                allowed = (
                    "completed or beside" if need in stack.jobs else "started, ready or beside"
                )
                complain(path, f"a {known[need][:-1]} can only be {allowed}, not {condition}")
        for index, secret in enumerate(process.secrets):
            if secret not in secrets:
                complain((kind, name, "secrets", index), f"unknown secret {secret}")
    nothing: Readiness = plain(models.Readiness())  # type: ignore[call-arg]
    for name, service in stack.services.items():
        for kind in ("postgres", "redis"):
            probe = getattr(service.readiness, kind)
            if probe is not None and probe.password and probe.password not in secrets:
                path = ("services", name, "readiness", kind, "password")
                complain(path, f"unknown secret {probe.password}")
        if service.rotation in ("only", "lost"):
            complain(("services", name, "rotation"), f"{service.rotation} is for jobs alone")
        for account, given in service.accounts.items():
            if given.secret not in secrets:
                path = ("services", name, "accounts", account, "secret")
                complain(path, f"unknown secret {given.secret}")
        if service.command is None and service.readiness != nothing:
            complain(("services", name, "readiness"), "there is no command that could be ready")
    for name, check in stack.checks.items():
        for index, need in enumerate(check.needs):
            if need not in known:
                complain(("checks", name, "needs", index), f"unknown need {need}")


def _check_flows(stack: Stack, model: schema.Stack, complain: Complain) -> None:
    for name, service in stack.services.items():
        if stack.namespace_of(name) in (HOST, OUTSIDE):
            meaning = "the lab's host" if stack.namespace_of(name) == HOST else "everybody else"
            complain(("services", name), f"{stack.namespace_of(name)} means {meaning} in flows")
        if "outbound" in model.services[name].model_fields_set and not service.networks:
            home = stack.home_of(name)
            path: Path = ("services", name, "outbound")
            complain(path, f"the way out is the namespace's: give it at {home}")
    known = {*stack.services, HOST}
    for index, flow in enumerate(stack.flows):
        ends = [("from", flow.sources), ("to", flow.targets)]
        unknown = [(key, name) for key, names in ends for name in names if name not in known]
        for key, name in unknown:
            text = f"unknown service {name}; known: {', '.join(stack.services)}, {HOST}"
            if name in stack.jobs:
                text = f"{name} is a job: its connections are those of {stack.jobs[name].of}"
            complain(("flows", index, key), text)
        if unknown:
            continue
        for target in flow.targets:
            ports = target != HOST and declared_ports(stack.services[target])
            if not (flow.ports or ports):
                complain(("flows", index, "ports"), f"{target} declares no port: give ports")
        for source in flow.sources:
            for target in flow.targets:
                if text := _apart(stack, source, target):
                    complain(("flows", index), text)


def _apart(stack: Stack, source: str, target: str) -> str:
    """Why there can be no connection, or none that would have to be declared."""
    if HOST in (source, target):
        return f"{HOST} to {HOST} passes no network" if source == target else ""
    if stack.namespace_of(source) == stack.namespace_of(target):
        return f"{source} and {target} share a namespace: they reach each other in any case"
    ends = [stack.services[stack.home_of(name)].networks for name in (source, target)]
    return "" if ends[0].keys() & ends[1].keys() else f"{source} and {target} share no network"
