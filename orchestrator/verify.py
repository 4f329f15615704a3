"""Proof that a running platform is what its stack file says: what to ask, and of whom."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cached_property, partial
from ipaddress import IPv4Address

from msgspec import Struct, field

from orchestrator.app import App
from orchestrator.errors import ProcessError
from orchestrator.preflight import host_addresses
from orchestrator.processes.probes import Answer
from orchestrator.proving import Finding, Question, Row, ask_all
from orchestrator.questions import check_probe
from orchestrator.resource import State
from orchestrator.spec import Check, HttpProbe, PublishedPort
from orchestrator.standing import Place, Standing
from orchestrator.traffic import (
    HOST_SIDE,
    OUTSIDE,
    OUTSIDE_PORT,
    Outside,
    Pinger,
    check_room,
    knock,
    knock_command,
    output_of,
    outside,
)
from orchestrator.typed import check_command, ready_command

READY_S = 5.0
CHECK_S = 5.0  # a platform that is up answers; the check's own deadline is for one that comes up
LOCALHOST = IPv4Address("127.0.0.1")


class Verification(Struct, frozen=True, dict=True):
    """Every proof for one app, group by group. Changes nothing itself; its
    requests do what the stack's checks ask for."""

    app: App
    with_outside: bool = False
    pingers: dict[str, Pinger | OSError] = field(default_factory=dict)  # by namespace
    there: list[Outside] = field(default_factory=list)

    async def prove(self, show: Callable[[Row], None]) -> None:
        """Shows every answer as it comes. Raises HostError if no outside can be built."""
        if self.with_outside:
            check_room(self.standing.host)
        await ask_all(self.standing.looks, show)
        with self._pinging():
            await ask_all(self.pings, show)  # alone, so that their times are the network's
        async with self._outside():
            await ask_all(self.requests, show)

    @property
    def questions(self) -> list[Question]:
        """All of them, in the order of the layers."""
        return [*self.standing.looks, *self.pings, *self.requests]

    @cached_property
    def standing(self) -> Standing:
        return Standing(self.app)

    @property
    def places(self) -> list[Place]:
        return self.standing.places

    @cached_property
    def pings(self) -> list[Question]:
        """Every ordered pair: neighbours answer, networks that are apart do not."""
        return [
            self._ping(source, other)
            for source in self.places
            for other in self.places
            if source is not other
        ]

    @cached_property
    def requests(self) -> list[Question]:
        """What is asked of those who run there."""
        found = [*self._names(), *self._services(), *self._published()]
        if self.with_outside:
            found += [*self._outbound(), *self._from_outside()]
        return [*found, *(self._check(*each) for each in self.app.stack.checks.items())]

    # -- who reaches whom ------------------------------------------------------------------

    @contextlib.contextmanager
    def _pinging(self) -> Iterator[None]:
        """With a socket for pings in each namespace."""
        with contextlib.ExitStack() as undo:
            for place in self.places:
                try:
                    pinger: Pinger | OSError = undo.enter_context(Pinger.inside(place.path))
                except OSError as error:
                    pinger = error
                self.pingers[place.name] = pinger
            yield

    def _ping(self, source: Place, other: Place) -> Question:
        near = other.address_for(source)
        # On a shared network, else at its first address.
        address = near or next(iter(other.links.values()))[1].ip

        async def ask() -> Finding:
            pinger = self.pingers[source.name]
            if isinstance(pinger, OSError):
                raise pinger
            answer = await pinger.ping(address)
            return _wanted(answer) if near else _unwanted(answer, "answers")

        command = f"ip netns exec {source.name} ping -c 1 -W 2 {address}"
        group = "ping" if near else "apart"
        return Question(group, f"{source.label} → {other.label}", command, ask)

    def _names(self) -> Iterator[Question]:
        """Each namespace knows every service by name, and reaches the next one by it."""
        for place in self.places:
            yield self._known_names(place)
        named = [place for place in self.places if place.label in self.app.stack.services]
        for place in self.places:
            near = [other for other in named if other is not place and other.address_for(place)]
            after = [other for other in near if self.places.index(other) > self.places.index(place)]
            for other in (after or near)[:1]:
                yield _by_name(place, other)

    def _known_names(self, place: Place) -> Question:
        listed = self.app.compiler.hosts(place.label).splitlines()
        wanted = {name: address for address, name in (line.split("\t") for line in listed)}
        del wanted["localhost"]
        words = ["ip", "netns", "exec", place.name, "getent", "ahostsv4", *wanted]

        async def ask() -> Finding:
            _, out = await output_of(words)
            found = {line.split()[-1]: line.split()[0] for line in out if line.strip()}
            wrong = [name for name in wanted if found.get(name) != wanted[name]]
            text = f"not as wanted: {', '.join(wrong)}" if wrong else f"{len(wanted)} names"
            return Finding(not wrong, text)

        return Question("name", place.label, shlex.join(words), ask)

    def _services(self) -> Iterator[Question]:
        """Each service's process runs and answers in its own protocol."""
        for name, service in self.app.stack.services.items():
            if service.command:
                yield Question("service", name, self._asking(name), partial(self._ready, name))

    async def _ready(self, name: str) -> Finding:
        node = self.app.nodes[f"service:{name}"]
        seen = await node.resource.observe()
        passed, text = seen.state is State.PRESENT, seen.detail or str(seen.state)
        if passed and node.gate is not None:
            try:
                async with asyncio.timeout(READY_S):
                    await node.gate.wait_for()
            except (TimeoutError, ProcessError):
                passed = False
            text = node.gate.last_answer() or "its process runs"
        return Finding(passed, text)

    def _asking(self, name: str) -> str:
        """The command that shows that the service is ready."""
        place = self.app.lab.namespace(self.app.stack.namespace_of(name))
        ready, address = self.app.stack.services[name].readiness, self.app.stack.address_of(name)
        inside = f"ip netns exec {place} ".__add__
        command = ready_command(ready, str(address), self.app.compiler.secrets.directory, inside)
        return command or f"ip netns pids {place}"

    # -- published ports, and the outside ----------------------------------------------------

    @property
    def _ports(self) -> list[tuple[PublishedPort, HttpProbe | None]]:
        """Published ports, with the service's own HTTP probe where it is on that port."""
        return [
            (port, http if http and http.port == port.service else None)
            for service in self.app.stack.services.values()
            for http in [service.readiness.http]
            for port in service.ports
        ]

    def _published(self) -> Iterator[Question]:
        """From localhost, by each of the host's addresses, and from inside each namespace."""
        for port, http in self._ports:
            for address in (LOCALHOST, *host_addresses(self.standing.host)):
                where = "localhost" if address == LOCALHOST else f"the host by {address}"
                command = self.standing.on_host(knock_command(address, port.host, http))
                ask = partial(knock, None, address, port.host, http)
                yield Question("published", f"{port.host} from {where}", command, ask)
            for place in self.places:
                network = next(iter(place.links))
                address = self.app.stack.networks[network].address.ip
                command = f"ip netns exec {place.name} {knock_command(address, port.host, http)}"
                ask = partial(knock, place.path, address, port.host, http)
                yield Question("published", f"{port.host} from {place.label}", command, ask)

    @contextlib.asynccontextmanager
    async def _outside(self) -> AsyncIterator[None]:
        if not self.with_outside:
            yield
            return
        async with outside(self.app.lab, self.app.compiler.netlink) as there:
            self.there[:] = [there]
            yield

    def _from_outside(self) -> Iterator[Question]:
        """Published ports for a client that is no part of this host."""
        for port, http in self._ports:
            command = knock_command(HOST_SIDE.ip, port.host, http) + "  # from outside"

            def ask(port: PublishedPort = port, http: HttpProbe | None = http) -> Awaitable[Answer]:
                return knock(self.there[0].path, HOST_SIDE.ip, port.host, http)

            yield Question("published", f"{port.host} from outside", command, ask)

    def _outbound(self) -> Iterator[Question]:
        """Services reach the outside behind the host's address, where their network may."""
        for place in self.places:
            inside = f"ip netns exec {place.name}"
            may = self.app.stack.networks[next(iter(place.links))].masquerade
            yield Question(
                "outbound",
                f"{place.label} {'ping' if may else 'kept in'}",
                f"{inside} ping -c 1 -W 2 {OUTSIDE.ip}",
                partial(self._echo, place, may=may),
            )
            if may:
                yield Question(
                    "outbound",
                    f"{place.label} tcp",
                    f"{inside} bash -c 'cat </dev/tcp/{OUTSIDE.ip}/{OUTSIDE_PORT}'",
                    partial(self._connect, place),
                )

    async def _echo(self, place: Place, *, may: bool) -> Finding:
        answer = await self.there[0].echo(place.path)
        return _wanted(answer) if may else _unwanted(answer, "answers")

    async def _connect(self, place: Place) -> Finding:
        answer = await self.there[0].seen_from(place.path)
        # Where it may not go everywhere: the port is none that a stack would name.
        return _wanted(answer) if place.goes_out else _unwanted(answer, "connects")

    # -- flows -----------------------------------------------------------------------------

    def _check(self, name: str, check: Check) -> Question:
        """The check's requests, made once."""
        limit_s = min(check.deadline_s, CHECK_S)

        async def ask() -> Finding:
            try:
                async with asyncio.timeout(limit_s):
                    answer = await check_probe(check).check()
            except TimeoutError:
                answer = Answer(False, f"no answer within {limit_s:g} s")
            except OSError as error:
                answer = Answer(False, error.strerror or str(error))
            requests = tuple(re.split(r"; (?=(?:GET|POST|PUT|DELETE) http)", answer.text))
            made = f"{len(requests)} of {len(check.steps)} requests"
            text = f"{made}{': ' + check.title if check.title else ''}"
            return Finding(answer.passed, text, requests)

        return Question("check", name, check_command(check.steps, self.standing.on_host), ask)


def _by_name(place: Place, other: Place) -> Question:
    words = ["ip", "netns", "exec", place.name, "ping", "-c", "1", "-W", "2", other.label]

    async def ask() -> Finding:
        passed, out = await output_of(words)
        text = next((line for line in out if "bytes from" in line or "rror" in line), "")
        return Finding(passed, text.partition(": ")[2] if passed else text or "no answer")

    return Question("name", f"{place.label} → {other.label}", shlex.join(words), ask)


def _wanted(answer: Answer) -> Finding:
    return Finding(answer.passed, answer.text)


def _unwanted(answer: Answer, what: str) -> Finding:
    text = f"{what}, must not" if answer.passed else f"{answer.text}, as wanted"
    return Finding(not answer.passed, text)
