"""Proof that a running platform is what its stack file says: rows of evidence and command."""

from __future__ import annotations

import asyncio
import itertools
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import TypeVar

from orchestrator import linux
from orchestrator.app import App
from orchestrator.errors import ProcessError, ResourceError
from orchestrator.kernel.netlink import Snapshot
from orchestrator.kernel.veth import DEFAULT, FORWARDING
from orchestrator.preflight import host_addresses
from orchestrator.processes.probes import Answer
from orchestrator.questions import check_probe
from orchestrator.resource import State
from orchestrator.spec import PORT_SIDE, Check, HttpProbe, PublishedPort
from orchestrator.traffic import (
    HOST_SIDE,
    OUTSIDE,
    Outside,
    Pinger,
    check_room,
    knock,
    knock_command,
    output_of,
    outside,
)
from orchestrator.typed import check_command, ready_command

AT_ONCE = 64  # packets and connections under way; a stack of 1,000 services has 999,000 pairs
READY_S = 5.0
LOCALHOST = IPv4Address("127.0.0.1")
EMPTY = Snapshot({}, {}, [])

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One thing proven or not, with what was seen and the command that shows the same."""

    group: str
    name: str
    passed: bool
    evidence: str
    command: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A service's namespace and what the stack promises of it."""

    label: str
    name: str  # in /run/netns
    links: Mapping[str, tuple[str, IPv4Interface]]  # network → interface and address
    goes_out: bool  # to any port outside

    @property
    def path(self) -> Path:
        return linux.NETNS_DIR / self.name

    def address_for(self, other: Place) -> IPv4Address | None:
        """This place's address as the other one reaches it; None if they share no network."""
        for network, (_, address) in self.links.items():
            if network in other.links:
                return address.ip
        return None


@dataclass(frozen=True)
class Verification:
    """Every proof for one app, group by group. Changes nothing itself; its
    requests do what the stack's checks ask for."""

    app: App
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def rows(self, *, with_outside: bool) -> AsyncIterator[Row]:
        """All rows in the order of the layers. Raises HostError if no outside can be built."""
        if with_outside:
            check_room(self.host)
        for row in [*self.namespaces(), *self.bridges()]:
            yield row
        for row in await self.pings():  # alone, so that their times are the network's
            yield row
        asked = await asyncio.gather(self.names(), self.services(), self.published())
        for row in itertools.chain(*asked):
            yield row
        if with_outside:
            async with outside(self.app.lab, self.app.compiler.netlink) as there:
                found = [*await self.outbound(there), *await self.from_outside(there)]
            for row in found:
                yield row
        for name, check in self.app.stack.checks.items():
            yield await self.check(name, check)

    @cached_property
    def places(self) -> list[Place]:
        stack = self.app.stack
        return [
            Place(
                stack.namespace_of(name),
                self.app.lab.namespace(stack.namespace_of(name)),
                {
                    network: (
                        stack.interface_of(name, network),
                        IPv4Interface(
                            (at.address, stack.networks[network].address.network.prefixlen)
                        ),
                    )
                    for network, at in service.networks.items()
                },
                service.outbound == "allowed",
            )
            for name, service in stack.services.items()
            if service.networks
        ]

    @cached_property
    def host(self) -> Snapshot:
        return self.app.compiler.netlink.snapshot()

    def on_host(self, command: str) -> str:
        """The command as it is typed in any shell: a private host is a namespace too."""
        host = self.app.lab.host
        return f"ip netns exec {host} {command}" if host else command

    def _inside(self, place: Place) -> Snapshot:
        try:
            return self.app.compiler.netlink.snapshot(place.path)
        except ResourceError:
            return EMPTY

    # -- what is there ---------------------------------------------------------------------

    def namespaces(self) -> Iterator[Row]:
        for place in self.places:
            alive = linux.is_namespace(place.path)
            found = "there is none"
            if alive:
                found = f"live, inode {place.path.stat().st_ino}"
            elif place.path.exists():
                found = "a stale file, no namespace"
            command = f"ip netns list | grep -w {place.name}"
            yield Row("namespace", place.label, alive, found, command)
        for place in self.places:
            yield from self._interfaces(place)

    def _interfaces(self, place: Place) -> Iterator[Row]:
        seen = self._inside(place)
        show = f"ip -n {place.name}"
        lo = seen.links.get("lo")
        up = lo is not None and lo.up
        yield Row("loopback", place.label, up, "up" if up else "down", f"{show} link show lo")
        gateway = None
        for network, (interface, wanted) in place.links.items():
            gateway = gateway or self.app.stack.networks[network].address.ip
            link, addresses = seen.links.get(interface), seen.of(interface)
            up = link is not None and link.up
            listed = ", ".join(str(address) for address in addresses) or "no address"
            yield Row(
                "address",
                f"{place.label} {interface}",
                up and wanted in addresses,
                f"{listed}, {'up' if up else 'down' if link else 'no such link'}",
                f"{show} -4 address show dev {interface}",
            )
        routes = [str(route.gateway) for route in seen.routes if route.destination == DEFAULT]
        yield Row(
            "route",
            place.label,
            routes == [str(gateway)],
            f"default via {', '.join(routes)}" if routes else "no default route",
            f"{show} route show default",
        )

    def bridges(self) -> Iterator[Row]:
        for name, network in self.app.stack.networks.items():
            bridge, addresses = self.host.links.get(name), self.host.of(name)
            up = bridge is not None and bridge.kind == "bridge" and bridge.up
            listed = ", ".join(str(address) for address in addresses) or "no address"
            yield Row(
                "bridge",
                name,
                up and network.address in addresses,
                f"{listed}, {'up' if up else 'not up'}",
                self.on_host(f"ip address show dev {name}"),
            )
            for place in self.places:
                if name in place.links:
                    yield self._port(name, place.links[name][0] + PORT_SIDE)

    def _port(self, bridge: str, name: str) -> Row:
        link, master = self.host.links.get(name), self.host.links.get(bridge)
        belongs = link is not None and master is not None and link.master == master.index
        forwards = belongs and link is not None and link.port_state == FORWARDING
        found = "forwarding" if forwards else "not forwarding" if belongs else "no port of it"
        command = self.on_host(f"bridge link show dev {name}")
        return Row("port", f"{bridge} {name}", forwards, found, command)

    # -- who reaches whom ------------------------------------------------------------------

    async def pings(self) -> list[Row]:
        """Every ordered pair: neighbours answer, networks that are apart do not."""

        async def from_one(source: Place) -> list[Row]:
            others = [place for place in self.places if place is not source]
            try:
                with Pinger.inside(source.path) as pinger:
                    asks = [pinger.ping(_address(source, other)) for other in others]
                    answers = await self._all(asks)
            except OSError as error:
                answers = [Answer(False, error.strerror or str(error))] * len(others)
            pairs = zip(others, answers, strict=True)
            return [_ping_row(source, other, answer) for other, answer in pairs]

        found = await asyncio.gather(*(from_one(place) for place in self.places))
        return [row for rows in found for row in rows]

    async def names(self) -> list[Row]:
        """Each namespace knows every service by name, and reaches the next one by it."""

        async def resolve(place: Place) -> Row:
            listed = self.app.compiler.hosts(place.label).splitlines()
            wanted = {name: address for address, name in (line.split("\t") for line in listed)}
            del wanted["localhost"]
            words = ["ip", "netns", "exec", place.name, "getent", "ahostsv4", *wanted]
            _, out = await output_of(words)
            found = {line.split()[-1]: line.split()[0] for line in out if line.strip()}
            wrong = [name for name in wanted if found.get(name) != wanted[name]]
            text = f"not as wanted: {', '.join(wrong)}" if wrong else f"{len(wanted)} names"
            return Row("name", place.label, not wrong, text, shlex.join(words))

        async def reach(place: Place, other: Place) -> Row:
            words = ["ip", "netns", "exec", place.name, "ping", "-c", "1", "-W", "2", other.label]
            passed, out = await output_of(words)
            text = next((line for line in out if "bytes from" in line or "rror" in line), "")
            text = text.partition(": ")[2] if passed else text or "no answer"
            return Row("name", f"{place.label} → {other.label}", passed, text, shlex.join(words))

        rows = [resolve(place) for place in self.places]
        named = [place for place in self.places if place.label in self.app.stack.services]
        for place in self.places:
            near = [other for other in named if other is not place and other.address_for(place)]
            after = [other for other in near if self.places.index(other) > self.places.index(place)]
            rows += [reach(place, other) for other in (after or near)[:1]]
        return await self._all(rows)

    async def services(self) -> list[Row]:
        """Each service's process runs and answers in its own protocol."""

        async def ready(name: str) -> Row:
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
            return Row("service", name, passed, text, self._asking(name))

        commands = self.app.stack.services.items()
        return await self._all([ready(name) for name, service in commands if service.command])

    def _asking(self, name: str) -> str:
        """The command that shows that the service is ready."""
        place = self.app.lab.namespace(self.app.stack.namespace_of(name))
        ready, address = self.app.stack.services[name].readiness, self.app.stack.address_of(name)
        inside = f"ip netns exec {place} ".__add__
        command = ready_command(ready, str(address), self.app.compiler.secrets.directory, inside)
        return command or f"ip netns pids {place}"

    # -- published ports -------------------------------------------------------------------

    @property
    def _ports(self) -> list[tuple[PublishedPort, HttpProbe | None]]:
        """Published ports, with the service's own HTTP probe where it is on that port."""
        return [
            (port, http if http and http.port == port.service else None)
            for service in self.app.stack.services.values()
            for http in [service.readiness.http]
            for port in service.ports
        ]

    async def published(self) -> list[Row]:
        """From localhost, by each of the host's addresses, and from inside each namespace."""
        asks = []
        for port, http in self._ports:
            for address in (LOCALHOST, *host_addresses(self.host)):
                where = "localhost" if address == LOCALHOST else f"the host by {address}"
                command = self.on_host(knock_command(address, port.host, http))
                asks.append(self._knock(None, where, address, port, http, command))
            for place in self.places:
                network = next(iter(place.links))
                address = self.app.stack.networks[network].address.ip
                command = f"ip netns exec {place.name} {knock_command(address, port.host, http)}"
                asks.append(self._knock(place.path, place.label, address, port, http, command))
        return await self._all(asks)

    async def from_outside(self, there: Outside) -> list[Row]:
        """Published ports for a client that is no part of this host."""
        asks = []
        for port, http in self._ports:
            command = knock_command(HOST_SIDE.ip, port.host, http) + "  # from outside"
            ask = self._knock(there.path, "outside", HOST_SIDE.ip, port, http, command)
            asks.append(ask)
        return await self._all(asks)

    async def _knock(
        self,
        namespace: Path | None,
        where: str,
        address: IPv4Address,
        port: PublishedPort,
        http: HttpProbe | None,
        command: str,
    ) -> Row:
        answer = await knock(namespace, address, port.host, http)
        name = f"{port.host} from {where}"
        return Row("published", name, answer.passed, answer.text, command)

    async def outbound(self, there: Outside) -> list[Row]:
        """Services reach the outside behind the host's address, where their network may."""

        async def one(place: Place) -> list[Row]:
            network = self.app.stack.networks[next(iter(place.links))]
            echo = await there.echo(place.path)
            ping = f"ip netns exec {place.name} ping -c 1 -W 2 {OUTSIDE.ip}"
            if not network.masquerade:
                text = "answers, must not" if echo.passed else f"{echo.text}, as wanted"
                return [Row("outbound", f"{place.label} kept in", not echo.passed, text, ping)]
            seen = await there.seen_from(place.path)
            tcp = f"ip netns exec {place.name} bash -c 'cat </dev/tcp/{OUTSIDE.ip}/{there.port}'"
            passed, text = seen.passed, seen.text
            if not place.goes_out:  # its port is none that a stack would name
                passed, text = not passed, "connects, must not" if passed else f"{text}, as wanted"
            return [
                Row("outbound", f"{place.label} ping", echo.passed, echo.text, ping),
                Row("outbound", f"{place.label} tcp", passed, text, tcp),
            ]

        found = await self._all([one(place) for place in self.places])
        return [row for rows in found for row in rows]

    # -- flows -----------------------------------------------------------------------------

    async def check(self, name: str, check: Check) -> Row:
        """The check's requests, made once."""
        try:
            async with asyncio.timeout(check.deadline_s):
                answer = await check_probe(check).check()
        except TimeoutError:
            answer = Answer(False, f"no answer within {check.deadline_s:g} s")
        except OSError as error:
            answer = Answer(False, error.strerror or str(error))
        requests = tuple(re.split(r"; (?=(?:GET|POST|PUT|DELETE) http)", answer.text))
        made = f"{len(requests)} of {len(check.steps)} requests"
        text = f"{made}{': ' + check.title if check.title else ''}"
        command = check_command(check.steps, self.on_host)
        return Row("check", name, answer.passed, text, command, requests)

    async def _all(self, asks: Sequence[Awaitable[T]]) -> list[T]:
        """Every answer in the order of the questions, a bounded number at once."""

        async def one(ask: Awaitable[T]) -> T:
            async with self.slots:
                return await ask

        return await asyncio.gather(*(one(ask) for ask in asks))


def _address(source: Place, other: Place) -> IPv4Address:
    """Where `source` asks for `other`: on a shared network, else at its first address."""
    return other.address_for(source) or next(iter(other.links.values()))[1].ip


def _ping_row(source: Place, other: Place, answer: Answer) -> Row:
    address = _address(source, other)
    command = f"ip netns exec {source.name} ping -c 1 -W 2 {address}"
    if other.address_for(source):
        return Row("ping", f"{source.label} → {other.label}", answer.passed, answer.text, command)
    text = "answers, must not" if answer.passed else f"{answer.text}, as wanted"
    return Row("apart", f"{source.label} → {other.label}", not answer.passed, text, command)
