"""The stack as plain frozen values: what everything but the reading of its file works with.

What may stand in a file, with bounds, defaults and words, is in schema.py, field by field the
same; a test holds the two together. A stack that was read before costs no command the loading of
what reads it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, Literal

from msgspec import Struct

from orchestrator.lab import IFNAMSIZ

PORT_SIDE = "-br"  # what the bridge's end of a veth is called more than the inner end


class Condition(StrEnum):
    """What a need waits for, with the words of Docker Compose in short."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"
    BESIDE = "beside"  # starts without it, is ready only once it is: overlaps the two starts

    def __reduce_ex__(self, _: object) -> tuple[type[Condition], tuple[str]]:
        """By value on every Python: 3.11.2, Debian's, pickles members as calls of getattr, which
        nobody who reads pickles with care can allow (known.py)."""
        return Condition, (self.value,)


class Network(Struct, frozen=True):
    """A bridge; its key is the bridge's name."""

    address: IPv4Interface
    masquerade: bool


class Attachment(Struct, frozen=True):
    """A service's place on a network."""

    address: IPv4Address
    interface: str | None


class Retry(Struct, frozen=True):
    """Attempts with exponential backoff and jitter between them."""

    attempts: int
    backoff_s: float
    max_backoff_s: float


class Stop(Struct, frozen=True):
    """How a process is asked to leave, and how long it may take."""

    signal: Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL"]
    grace_s: float


class Listen(Struct, frozen=True):
    """A listening socket that is made before the program and handed to it."""

    port: int
    handover: Literal["systemd", "nginx"]
    backlog: int


class ConfigFile(Struct, frozen=True):
    """A file that is rendered for the service and mounted at its key: a template or its text."""

    template: str | None
    content: str | None
    on_host: bool


class When(Struct, frozen=True):
    """What this host must have; a service without it is left out, with a word."""

    programs: tuple[str, ...]
    otherwise: str


class Account(Struct, frozen=True):
    """An account at PostgreSQL or Redis: its password, and what `audit` must find it may do."""

    secret: str
    may: tuple[str, ...]


class Limits(Struct, frozen=True):
    """What all processes of a service or job together may take."""

    memory: int  # bytes
    tasks: int


class HttpProbe(Struct, frozen=True):
    """GET answers with that status and a body that contains the text."""

    port: int
    path: str
    status: int
    contains: str


class PostgresProbe(Struct, frozen=True):
    """SELECT 1 on that database as that user."""

    database: str
    port: int
    user: str
    password: str | None


class RedisProbe(Struct, frozen=True):
    """PING answers PONG."""

    port: int
    user: str | None
    password: str | None


class Readiness(Struct, frozen=True):
    """Everything that is given must hold, in this order: notify, tcp, then the protocols."""

    notify: bool
    tcp: int | None
    http: HttpProbe | None
    postgres: PostgresProbe | None
    redis: RedisProbe | None
    interval_s: float


class Process(Struct, frozen=True):
    """What services and jobs have in common."""

    user: str
    environment: dict[str, str]
    files: dict[str, ConfigFile]
    secrets: tuple[str, ...]
    rotation: Literal["restart", "live", "only", "lost"]
    needs: dict[str, Condition | None]
    retry: Retry
    deadline_s: float
    nice: int
    limits: Limits
    host_files: tuple[str, ...]


class Service(Process, frozen=True):
    """A namespace on the network(s) and, with a command, a process that runs in it."""

    layer: str
    when: When | None
    namespace: str | None
    networks: dict[str, Attachment]
    command: tuple[str, ...] | None
    data: tuple[str, ...]
    accounts: dict[str, Account]
    path_log: str | None
    ports: tuple[PublishedPort, ...]
    listen: Listen | None
    outbound: Literal["allowed", "denied"] | tuple[str, ...]
    readiness: Readiness
    stop: Stop


class PublishedPort(Struct, frozen=True):
    """Host port → service port, for clients from everywhere."""

    host: int
    service: int


class Prepared(Struct, frozen=True):
    """What a job would make alike in every lab: made once per machine, its standard input then."""

    command: tuple[str, ...]
    programs: tuple[str, ...]


class Job(Process, frozen=True):
    """A command that runs to its end once; `of` names the service whose place it takes."""

    of: str
    command: tuple[str, ...]
    network: bool
    creates: str | None
    prepared: Prepared | None


class Flow(Struct, frozen=True):
    """Connections that may be made besides those that follow from needs."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ports: tuple[str, ...]
    why: str


class Expect(Struct, frozen=True):
    """What an answer must look like."""

    status: int
    contains: str
    json_keys: tuple[str, ...]


class CheckStep(Struct, frozen=True):
    """One HTTP request from the lab's host."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    url: str
    headers: dict[str, str]
    body: dict[str, Any] | None
    expect: Expect
    save: dict[str, str]


class Check(Struct, frozen=True):
    """Requests through the platform, in order; a gate of `up`, or a row of `verify` only."""

    title: str
    gate: bool
    needs: tuple[str, ...]
    deadline_s: float
    steps: tuple[CheckStep, ...]


class Supervision(Struct, frozen=True):
    """What the supervisor does about drift and failures."""

    policy: Literal["heal", "alert", "freeze"]
    health_interval_s: float
    start_limit: int
    start_window_s: float
    probe: str | None
    port: int
    setup_budget_s: float
    trace_one_in: int


class Stack(Struct, frozen=True, dict=True):
    """A whole platform: networks, services, jobs, secrets, checks."""

    name: str
    networks: dict[str, Network]
    path: tuple[str, ...]
    secrets: tuple[str, ...]
    services: dict[str, Service]
    jobs: dict[str, Job]
    flows: tuple[Flow, ...]
    checks: dict[str, Check]
    supervision: Supervision

    def namespace_of(self, service: str) -> str:
        return self.services[service].namespace or service

    @cached_property
    def _homes(self) -> dict[str, str]:
        """Namespace → the service that declares its networks."""
        homes: dict[str, str] = {}
        for name, service in self.services.items():
            if service.networks:
                homes.setdefault(self.namespace_of(name), name)
        return homes

    def home_of(self, service: str) -> str:
        """The service that declares the networks of this service's namespace."""
        return self._homes.get(self.namespace_of(service), service)

    def address_of(self, service: str) -> IPv4Address | None:
        """The service's first address."""
        for attachment in self.services[self.home_of(service)].networks.values():
            return attachment.address
        return None

    def interface_of(self, service: str, network: str) -> str:
        """The inner interface's name: given, or `veth-<service>` cut to what fits."""
        given = self.services[service].networks[network].interface
        if given is not None:
            return given
        others = list(self.services[service].networks)
        tail = "" if others[0] == network else str(others.index(network))
        room = IFNAMSIZ - len(PORT_SIDE) - len("veth-") - len(tail)
        namespace = self.namespace_of(service)
        if len(namespace) <= room:
            return f"veth-{namespace}{tail}"
        return f"veth-{sha256(namespace.encode()).hexdigest()[:room]}{tail}"

    def is_awaited(self, name: str) -> bool:
        """Whether others begin only once this service is ready."""
        return any(
            needed == name and self.condition_of(name, given) is Condition.READY
            for each in (*self.services.values(), *self.jobs.values())
            for needed, given in each.needs.items()
        )

    def condition_of(self, name: str, given: Condition | None) -> Condition:
        """A need without a condition waits for the most that its target can reach."""
        return given or (Condition.COMPLETED if name in self.jobs else Condition.READY)
