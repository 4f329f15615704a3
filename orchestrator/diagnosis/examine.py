"""From a node's name to its diagnosis: looks, asks what is worth asking, and concludes.

What stands on something broken is not asked: its answer would only cost time, and say nothing.
Changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct, field

from orchestrator.app import App
from orchestrator.diagnosis import network, transport
from orchestrator.diagnosis.asking import Asked, ask, counted
from orchestrator.diagnosis.findings import Diagnosis, Finding, Verdict, Walk, closure, conclude
from orchestrator.diagnosis.looking import BRIDGED_RULES, IP_FORWARD, LOG_LINES, Seen, look
from orchestrator.diagnosis.network import Shell
from orchestrator.diagnosis.site import FORWARDING, RULES, Place, Site
from orchestrator.diagnosis.transport import Attempt, Outcome
from orchestrator.diskspace import full_places
from orchestrator.errors import HostError, OrchestratorError
from orchestrator.kernel import sysctl
from orchestrator.kernel.bridge import Bridge
from orchestrator.kernel.guard import Guard
from orchestrator.kernel.namespace import Namespace
from orchestrator.kernel.policy import Policy
from orchestrator.kernel.veth import Veth
from orchestrator.needs import topological
from orchestrator.processes import child
from orchestrator.processes.gate import ask as ask_probe
from orchestrator.processes.probes import Answer
from orchestrator.questions import check_probe, probes_of
from orchestrator.resource import State
from orchestrator.typed import check_command, ready_command

DEADLINE_S = 60.0  # for everything; each question has a shorter one of its own
CHECK_S = 5.0
SAFE = ("GET", "HEAD")  # RFC 9110, 9.2.1: requests that change nothing
LAYERS_OF_KINDS = {
    "mount": "namespace",
    "netns": "namespace",
    "sysctl": "sysctl",
    "nat": "rules",
    "guard": "bridge",
    "policy": "rules",
}


async def diagnose(app: App, asked: str = "") -> Diagnosis:
    """Why the node does not answer, or the whole platform. Raises HostError, ResourceError."""
    is_bridged = sysctl.read(BRIDGED_RULES) == "1"
    site = Site(app.stack, app.nodes, is_bridged)
    nodes = closure(asked, site.needs) if asked else set(app.nodes)
    # A service's walk passes more than its needs say, e.g. rules; a caller's place is looked at.
    nodes |= {each for name in nodes for each in site.way(name)}
    examination = Examination(app, site, nodes)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await examination.run()
    except TimeoutError as error:
        reason = f"cannot look at everything within {DEADLINE_S:g} s"
        raise HostError(reason, mend="ask for one node, or when the host is less busy") from error
    return examination.conclude(asked)


class Examination(Struct):
    """Findings by the node whose walk they belong to, gathered layer by layer."""

    app: App
    site: Site
    nodes: Collection[str]
    found: dict[str, list[Finding]] = field(default_factory=dict)

    @property
    def shell(self) -> Shell:
        return Shell(self.app.lab.host)

    async def run(self) -> None:
        """Every phase; each leaves out what the ones before found broken."""
        needs = self.site.needs
        order = [name for name in topological(needs) if name in self.nodes]
        services = [name for name in order if name.startswith("service:")]
        places = self._places(services)
        looked_at = {*self.nodes, *(node for place in places.values() for node in place.nodes)}
        seen = await look(
            self.app,
            [name for name in self.app.nodes if name in looked_at],
            {label: place.path for label, place in places.items()},
        )
        for name in looked_at:
            self.found[name] = list(self._static(name, seen))
        self._jobs([name for name in order if name.startswith("job:")], seen)
        await self._ask(services, places, seen)
        for name in services:
            self.found[name].append(self._listener(name, seen))
        self._drift(seen)
        await self._answers(services, seen)
        checks = [name for name in order if name.startswith("check:")]
        await asyncio.gather(*(self._check(name) for name in checks))

    def conclude(self, asked: str) -> Diagnosis:
        """The walks of services, jobs and checks, the deepest first; or of what was asked."""
        needs = self.site.needs
        kinds = ("service:", "job:", "check:", "link:")
        names = [n for n in topological(needs) if n in self.nodes and n.startswith(kinds)]
        if asked and asked not in names:
            names.append(asked)
        if not asked:
            walked = {each for name in names for each in self.site.way(name)}
            names += [name for name in self.nodes if name not in walked]
        walks = [
            Walk.of(name, [each for node in self.site.way(name) for each in self.found[node]])
            for name in names
        ]
        return conclude(asked, walks, needs)

    # -- what is broken so far ---------------------------------------------------------------

    def _is_broken(self, name: str) -> bool:
        return any(each.verdict is Verdict.BROKEN for each in self.found.get(name, ()))

    def _is_well(self, name: str) -> bool:
        """Nothing on the way to the node is broken, nor anything that it needs."""
        below = closure(name, self.site.needs) | set(self.site.way(name))
        return not any(self._is_broken(each) for each in below)

    def _whole(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if name in self.found and not self._is_broken(name)}

    def _places(self, services: Sequence[str]) -> dict[str, Place]:
        """Places in question, and those of the callers."""
        found = {
            label: place
            for label, place in self.site.places.items()
            if place.namespace.name in self.nodes
        }
        for name in services:
            for caller in self.site.callers(name.partition(":")[2]):
                found.setdefault(caller.label, caller)
        return found

    # -- without asking ----------------------------------------------------------------------

    def _static(self, name: str, seen: Seen) -> Iterable[Finding]:
        shell, resource = self.shell, self.app.nodes[name].resource
        match resource:
            case Namespace(filename=filename):
                command = f"ip netns list | grep -w {filename}"
                text = f"{filename} is live, lo is up"
                found = transport.observed("namespace", name, seen.observed[name], text, command)
                if found.verdict is Verdict.BROKEN and "not as wanted" in found.evidence:
                    return []  # a file for `ip netns exec`: drift
                return [found]
            case Veth():
                inside = seen.inside.get(_label(name))
                ends = network.link(resource, seen.host, inside, shell, self.site.owners)
                default = network.default_route(resource, inside, shell)
                if ends.verdict is not Verdict.OK and inside is not None:
                    default = None  # gone with the link or its address
                port = network.port(resource, seen.host, shell)
                return [ends, port, *([default] if default else [])]
            case Guard():
                return [network.guard(resource, seen.observed[name], shell)]
            case Policy():
                return [network.policy(resource, seen.observed[name], shell)]
            case Bridge(interface=interface):
                key = f"net.ipv4.conf.{interface}.route_localnet"
                found = network.bridge(resource, seen.host, shell)
                if found.verdict is Verdict.BROKEN:
                    return [found]
                return [found, *network.settings({key: ("1", name)}, seen.settings, shell)]
        if name == FORWARDING:
            return network.settings({IP_FORWARD: ("1", name)}, seen.settings, shell)
        if name == RULES:
            if seen.tables is None:
                text = f"the rules cannot be read: {seen.tables_error}"
                return [Finding("rules", name, Verdict.BROKEN, text, shell.run("iptables-save"))]
            return [network.rules(self.site.nat, seen.tables, shell)]
        kind = name.partition(":")[0]
        if kind == "mount":
            text, command = "/run/netns is mounted", "findmnt /run/netns"
            return [transport.observed("namespace", name, seen.observed[name], text, command)]
        if kind == "link":
            return [transport.link(name, seen.observed[name], f"ls -l {_short(name)}")]
        return []

    def _jobs(self, names: Sequence[str], seen: Seen) -> None:
        full = full_places(self.app.lab)
        for name in names:
            dependents = [each for each in self.app.nodes if name in self.site.needs[each]]
            is_missed = any(
                not seen.running[each].members for each in dependents if each in seen.running
            )
            log = self.app.lab.log(name.partition(":")[2])
            self.found[name] = [
                transport.job(
                    name,
                    seen.observed[name],
                    needs_are_well=self._is_well(name),
                    is_missed=is_missed,
                    log=child.tail(log, lines=LOG_LINES),
                    full=full,
                )
            ]

    def _listener(self, name: str, seen: Seen) -> Finding:
        short = name.partition(":")[2]
        namespace = self.app.lab.namespace(self.app.stack.namespace_of(short))
        ports = self.site.ports(short)
        return transport.listener(name, ports, seen.running[name], namespace, self.shell)

    def _drift(self, seen: Seen) -> None:
        """Whatever a resource itself finds wrong and no layer has named."""
        for name in self.found:
            if any(e.verdict in (Verdict.BROKEN, Verdict.DRIFT) for e in self.found[name]):
                continue
            resource, detail = self.app.nodes[name].resource, ""
            if isinstance(resource, Veth):
                inside = seen.inside.get(_label(name))
                detail = "; ".join(resource.differences(seen.host.links, inside)) if inside else ""
                skipped = any(each.verdict is Verdict.SKIPPED for each in self.found[name])
                detail = "" if skipped else detail
            elif seen.observed[name].state is not State.PRESENT:
                detail = seen.observed[name].detail or str(seen.observed[name].state)
            kind = name.partition(":")[0]
            if detail and kind not in ("service", "job", "check", "link"):
                layer = LAYERS_OF_KINDS.get(kind, "link" if kind == "veth" else kind)
                self.found[name].append(Finding(layer, name, Verdict.DRIFT, detail))

    # -- asking ------------------------------------------------------------------------------

    async def _ask(self, services: Sequence[str], places: dict[str, Place], seen: Seen) -> None:
        """Connections from every caller to whatever stands on a whole place."""
        whole = self._whole(self.found)
        rules_are_well = not (self._is_broken(RULES) or self._is_broken(FORWARDING))
        asked_places, asked_services = [], []
        for place in places.values():
            here = [name for name in services if self.site.place_of(_short(name)) is place]
            passes = any(self.site.passes_rules(name) for name in here)
            if whole.issuperset(place.nodes) and (rules_are_well or not passes):
                asked_places.append(place)
                asked_services += here
            for name in here:
                if name not in asked_services:
                    text = "not asked, since a layer below is broken"
                    self.found[name].append(Finding("syn", name, Verdict.SKIPPED, text))
        names = [_short(name) for name in asked_services]
        asked = await ask(self.site, names, asked_places, whole)
        for place in asked_places:
            self._ways(place, asked, seen)
        for name in asked_services:
            if self.site.ports(_short(name)):
                sockets = seen.running[name].sockets
                attempts = asked.attempts[_short(name)]
                self.found[name].append(transport.syn(name, attempts, sockets, self.shell))
        await self._denials(asked_services, asked)

    def _ways(self, place: Place, asked: Asked, seen: Seen) -> None:
        inside = seen.inside.get(place.label)
        for veth in place.veths:
            ways = [way for way in asked.ways[place.label] if way.target == veth.address.ip]
            mac = inside.links[veth.inner].mac if inside else veth.mac
            self.found[veth.name].append(network.neighbour(veth, mac, ways, self.shell))
            self.found[veth.name] += network.routes(veth.name, ways, self.shell)

    async def _denials(self, services: Sequence[str], asked: Asked) -> None:
        """Silence that neither neighbours nor routes explain: which rule swallowed it?"""
        failed: list[tuple[str, Attempt]] = []
        for name in services:
            way = [each for node in self.site.way(name) for each in self.found[node]]
            broken = [each.layer for each in way if each.verdict is Verdict.BROKEN]
            if broken == ["syn"]:
                tried = asked.attempts[_short(name)]
                bad = [each for each in tried if each.outcome is not Outcome.CONNECTED]
                failed += [(_short(name), each) for each in bad]
        if not failed:
            return
        for each in await counted(self.site, failed):
            for found in network.denials(each, self.shell):
                for name in {f"service:{service}" for service, _ in failed}:
                    self.found[name].append(found)

    async def _answers(self, services: Sequence[str], seen: Seen) -> None:
        """Each service's own probes, where nothing that it needs is broken."""
        well = {name for name in services if self._is_well(name)}
        given = await asyncio.gather(*(self._probe(name, name in well) for name in services))
        for name, answers in zip(services, given, strict=True):
            spec, running = self.app.stack.services[_short(name)], seen.running[name]
            address = str(self.app.stack.address_of(_short(name)))
            secrets = self.app.lab.state_dir / "secrets"
            command = ready_command(spec.readiness, address, secrets, self.shell.run)
            for layer, answer in answers:
                found = transport.answer(name, layer, answer, command, running)
                self.found[name].append(found)
            if not any(layer == "query" for layer, _ in answers):
                full = transport.room(name, running)
                self.found[name] += [full] if full else []

    async def _probe(self, name: str, is_asked: bool) -> list[tuple[str, Answer | None]]:
        layers = {"http": "http", "postgres": "query", "redis": "query"}
        found: list[tuple[str, Answer | None]] = []
        for probe in probes_of(self.app.stack, _short(name), self.app.compiler.secrets):
            if probe.kind in layers:
                answer = None
                if is_asked:
                    try:
                        answer = await ask_probe(probe)
                    except OrchestratorError as error:  # no secret to ask with
                        answer = Answer(False, str(error))
                found.append((layers[probe.kind], answer))
        return found

    async def _check(self, name: str) -> None:
        check = self.app.stack.checks[_short(name)]
        command = check_command(check.steps, self.shell.run)
        if any(step.method not in SAFE for step in check.steps):
            text = "not asked, since it changes data: `orchestrator verify` asks it"
            self.found[name] = [Finding("check", name, Verdict.SKIPPED, text, command)]
            return
        if not self._is_well(name):
            text = "not asked, since something that it needs is broken"
            self.found[name] = [Finding("check", name, Verdict.SKIPPED, text, command)]
            return
        try:
            async with asyncio.timeout(CHECK_S):
                answer = await check_probe(check).check()
        except (TimeoutError, OSError) as error:
            answer = Answer(False, str(error) or f"no answer within {CHECK_S:g} s")
        verdict = Verdict.OK if answer.passed else Verdict.BROKEN
        self.found[name] = [Finding("check", name, verdict, answer.text, command)]


def _short(name: str) -> str:
    return name.partition(":")[2]


def _label(veth: str) -> str:
    """The namespace's short name in `veth:NAME` or `veth:NAME.NETWORK`."""
    return veth.partition(":")[2].partition(".")[0]
