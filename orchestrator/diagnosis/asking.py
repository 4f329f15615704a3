"""What only an answer can prove: connections, routes and neighbours from every caller's side.

Everything here has its deadline, and all questions of one round are under way at once.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from msgspec import Struct

from orchestrator import flows, linux
from orchestrator.diagnosis.network import Counted, Way
from orchestrator.diagnosis.site import Place, Site
from orchestrator.diagnosis.transport import Attempt, Outcome
from orchestrator.errors import OrchestratorError, ResourceError
from orchestrator.kernel import iptables
from orchestrator.kernel.iptables import Tables
from orchestrator.kernel.neighbours import Neighbour, neighbours
from orchestrator.traffic import Pinger, open_socket

HOST = "the host"
CONNECT_S = 2.5  # the kernel sends a SYN again after 1 s; ARP gives up after 3 s
AT_ONCE = 64
DISCARD = 9  # RFC 863; no packet goes there, a route is only looked up
LOCALHOST = IPv4Address("127.0.0.1")


class Caller(Struct, frozen=True):
    """One side that a connection may come from; `path` None is the host."""

    label: str
    path: Path | None
    node: str  # to blame if it alone does not get through
    device: str  # by which packets leave
    target: IPv4Address
    source: IPv4Address

    @property
    def namespace(self) -> str:
        return self.path.name if self.path else ""

    @property
    def place(self) -> str:
        """As flows call it."""
        return self.label if self.path else flows.HOST


def callers(site: Site, place: Place, whole: set[str]) -> list[Caller]:
    """The host, and each declared caller whose own place is whole."""
    found = [
        Caller(
            HOST, None, f"bridge:{veth.bridge}", veth.bridge, veth.address.ip, site.gateway(veth)
        )
        for veth in place.veths
    ]
    here = [name for name in site.stack.services if site.place_of(name) is place]
    near = {each.label: each for name in here for each in site.callers(name)}
    for label, other in near.items():
        shared = site.address_for(place, other)
        if shared and label != place.label and whole.issuperset(other.nodes):
            target, own = shared
            ends = target.address.ip, own.address.ip
            found.append(Caller(label, other.path, own.name, own.inner, *ends))
    return found


class Asked(Struct, frozen=True):
    """Answers of one round, by place and by service."""

    ways: dict[str, list[Way]]
    attempts: dict[str, list[Attempt]]


async def ask(
    site: Site, services: Sequence[str], places: Iterable[Place], whole: set[str]
) -> Asked:
    """Connects to the services, and looks up how each caller comes to their places."""
    slots = asyncio.Semaphore(AT_ONCE)
    by_place = {place.label: callers(site, place, whole) for place in places}
    questions: list[tuple[str, Caller, IPv4Address, int, bool]] = []
    for name in services:
        place = site.place_of(name)
        if place is None or place.label not in by_place:
            continue
        for port in site.open_ports(name):
            questions += [
                (name, each, each.target, port, False)
                for each in by_place[place.label]
                if site.allows(each.place, name, port)
            ]
        questions += [(name, *question) for question in _published(site, name, place, whole)]
    tried = await asyncio.gather(
        *(
            attempt(slots, caller, address, port, redirected=redirected)
            for _, caller, address, port, redirected in questions
        )
    )
    attempts: dict[str, list[Attempt]] = {name: [] for name in services}
    answered = set()
    for (name, caller, address, _, _), found in zip(questions, tried, strict=True):
        attempts[name].append(found)
        if found.answered:
            answered.add((caller.label, address))
    knocked = {site.stack.namespace_of(question[0]) for question in questions}
    quiet = [each for label, found in by_place.items() if label not in knocked for each in found]
    answered |= await _pinged(quiet)
    tables = await _neighbours({each.path for found in by_place.values() for each in found})
    ways = {
        label: [_way(each, tables, (each.label, each.target) in answered) for each in found]
        for label, found in by_place.items()
    }
    return Asked(ways, attempts)


def _published(
    site: Site, service: str, place: Place, whole: set[str]
) -> Iterator[tuple[Caller, IPv4Address, int, bool]]:
    """By localhost, by the host's address, and from a neighbour: that one passes PREROUTING
    and FORWARD, as a client outside does."""
    veth = place.veths[0]
    gateway = site.gateway(veth)
    host = Caller(HOST, None, "nat:rules", veth.bridge, veth.address.ip, gateway)
    for port in site.stack.services[service].ports:
        for address in (LOCALHOST, gateway):
            yield host, address, port.host, True
        for other in site.places.values():
            shared = site.address_for(place, other)
            if other is not place and shared and whole.issuperset(other.nodes):
                own = shared[1]
                ends = veth.address.ip, own.address.ip
                caller = Caller(other.label, other.path, "nat:rules", own.inner, *ends)
                yield caller, gateway, port.host, True
                break


async def attempt(
    slots: asyncio.Semaphore, caller: Caller, address: IPv4Address, port: int, *, redirected: bool
) -> Attempt:
    """One connection, closed as soon as it stands."""

    def ended(outcome: Outcome, text: str) -> Attempt:
        return Attempt(
            caller.label,
            caller.namespace,
            caller.node,
            str(address),
            port,
            outcome,
            text,
            redirected,
        )

    async with slots:
        begun = time.perf_counter()
        try:
            with open_socket(caller.path, socket.SOCK_STREAM) as channel:
                async with asyncio.timeout(CONNECT_S):
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(channel, (str(address), port))
        except TimeoutError:
            return ended(Outcome.SILENT, f"no answer within {CONNECT_S:g} s")
        except OSError as error:
            if error.errno == errno.ETIMEDOUT:
                return ended(Outcome.SILENT, "no answer")
            refused = error.errno in (errno.ECONNREFUSED, errno.ECONNRESET)
            text = error.strerror or str(error)
            return ended(Outcome.REFUSED if refused else Outcome.UNREACHABLE, text)
        return ended(
            Outcome.CONNECTED, f"connected in {(time.perf_counter() - begun) * 1000:.1f} ms"
        )


async def _pinged(callers: Sequence[Caller]) -> set[tuple[str, IPv4Address]]:
    """Who gets an echo: for services that listen on no port."""

    async def one(caller: Caller) -> tuple[str, IPv4Address] | None:
        with suppress(OSError), Pinger.inside(caller.path) as pinger:
            if (await pinger.ping(caller.target)).passed:
                return caller.label, caller.target
        return None

    found = await asyncio.gather(*(one(caller) for caller in callers))
    return {each for each in found if each}


async def _neighbours(
    paths: Iterable[Path | None],
) -> dict[Path | None, dict[IPv4Address, Neighbour]]:
    found = {}
    for path in paths:
        with suppress(ResourceError):
            found[path] = await linux.in_thread(neighbours, path)
    return found


def _way(
    caller: Caller, tables: dict[Path | None, dict[IPv4Address, Neighbour]], is_answered: bool
) -> Way:
    source, error = route(caller.path, caller.target)
    return Way(
        caller.label,
        caller.namespace,
        caller.node,
        caller.device,
        caller.target,
        source,
        str(caller.source),
        error,
        tables.get(caller.path, {}).get(caller.target),
        is_answered,
    )


def route(namespace: Path | None, target: IPv4Address) -> tuple[str, str]:
    """(the address that the kernel would send from, or why there is no route): connecting a
    UDP socket looks the route up and sends nothing."""
    try:
        with open_socket(namespace, socket.SOCK_DGRAM) as channel:
            channel.connect((str(target), DISCARD))
            return str(channel.getsockname()[0]), ""
    except OSError as error:
        words = {errno.EINVAL: "blackhole", errno.EACCES: "prohibited"}  # ip-route(8), types
        return "", words.get(error.errno or 0) or error.strerror or str(error)


async def counted(site: Site, failed: Sequence[tuple[str, Attempt]]) -> list[Counted]:
    """Tries again what got no answer, with the rules' counters read before and after, on the
    host and in the namespaces of both sides."""
    spaces: dict[str, str] = {"": "nat:rules"}  # namespace → the node that is named
    for service, each in failed:
        if place := site.place_of(service):
            spaces[place.path.name] = place.namespace.name
        if each.namespace:
            label = each.caller
            spaces[each.namespace] = f"netns:{label}"
    before = await _rules(spaces)
    slots = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(
        *(
            attempt(slots, _caller(each), IPv4Address(each.address), each.port, redirected=False)
            for _, each in failed
        )
    )
    after = await _rules(spaces)
    return [
        Counted(node, space, before[space], after[space])
        for space, node in spaces.items()
        if space in before and space in after
    ]


def _caller(each: Attempt) -> Caller:
    path = linux.NETNS_DIR / each.namespace if each.namespace else None
    return Caller(each.caller, path, each.node, "", IPv4Address(each.address), LOCALHOST)


async def _rules(spaces: Iterable[str]) -> dict[str, Tables]:
    found = {}
    for space in spaces:
        with suppress(OrchestratorError, OSError):
            found[space] = await iptables.save(linux.NETNS_DIR / space if space else None)
    return found
