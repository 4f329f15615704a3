"""What may stand in a stack file, as models: networks, services, jobs, checks.

Only stackfile.py reads by them; everybody else has the values of spec.py, with the same fields.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from orchestrator.fields import (
    AbsolutePath,
    Bytes,
    FlowPort,
    HeaderName,
    HeaderValue,
    HttpUrl,
    InterfaceName,
    JsonObject,
    Model,
    Name,
    Port,
    Seconds,
    StackPath,
    Text,
    Variable,
    one_or_more,
    published,
    signal_name,
    way_out,
)
from orchestrator.readiness import Readiness
from orchestrator.spec import Condition

ONE_OR_MORE: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
}


class Network(Model):
    """A bridge; its key is the bridge's name."""

    address: Annotated[IPv4Interface, WithJsonSchema({"type": "string"})] = Field(
        description="The bridge's own address with its prefix length, e.g. 10.0.0.1/16."
    )
    masquerade: bool = Field(
        True, description="Let the network reach the outside behind the host's address."
    )


class Attachment(Model):
    """A service's place on a network."""

    address: IPv4Address
    interface: InterfaceName | None = Field(
        None, description="Name inside the namespace; the bridge's end adds -br to it."
    )


def _attachment(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


class Retry(Model):
    """Attempts with exponential backoff and jitter between them."""

    attempts: int = Field(3, ge=1, le=100)
    backoff_s: Seconds = Field(0.2, alias="backoff")
    max_backoff_s: Seconds = Field(5.0, alias="max_backoff")


class Stop(Model):
    """How a process is asked to leave, and how long it may take."""

    signal: Annotated[
        Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL"],
        BeforeValidator(signal_name),
    ] = "SIGTERM"
    grace_s: Seconds = Field(10.0, alias="grace")


class Listen(Model):
    """A listening socket that is made before the program and handed to it.

    It outlives the program: connections wait in it while the program is replaced.
    """

    port: Port
    handover: Literal["systemd", "nginx"] = Field(
        "systemd", description="systemd: LISTEN_FDS, sd_listen_fds(3); nginx: its NGINX variable."
    )
    backlog: int = Field(1024, ge=1, le=65_535)


class ConfigFile(Model):
    """A file that is rendered for the service (jinja2) and mounted at its key."""

    template: StackPath | None = None
    content: Text | None = None
    on_host: bool = Field(False, description="Also linked at the same path on the host.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.template is None) == (self.content is None):
            raise ValueError("give either template or content")
        return self


class When(Model):
    """What this host must have; a service without it is left out, with a word."""

    programs: Annotated[
        tuple[Text, ...], BeforeValidator(one_or_more), WithJsonSchema(ONE_OR_MORE)
    ] = Field(
        alias="program",
        min_length=1,
        description="A command that is found where the service's own would be; of several, any.",
    )
    otherwise: str = Field("", description="What `up` says when the service is left out.")


class Account(Model):
    """An account at PostgreSQL or Redis: its password, and what `audit` must find it may do."""

    secret: Name
    may: tuple[Text, ...] = Field(description="`SELECT on table (column)`, a role; ACL rules.")


class Limits(Model):
    """What all processes of a service or job together may take."""

    memory: Bytes = Field(1 << 30, description="256M, 1G (powers of 1024), or bytes.")
    tasks: int = Field(512, ge=4, le=100_000, description="Processes and threads.")


class Process(Model):
    """What services and jobs have in common."""

    user: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]*$")] = Field(
        "auto", description="auto: a user id of its own without a host account; or a name."
    )
    environment: dict[Variable, Text] = {}
    files: dict[AbsolutePath, ConfigFile] = {}
    secrets: tuple[Name, ...] = ()
    rotation: Literal["restart", "live", "only", "lost"] = Field(
        "restart",
        description="When a secret of it is rotated: restart it; live: it reads secrets anew (a "
        "job: is run, to make its server take them); only: a job that is run for nothing else; "
        "lost: a job that is run again where a secret was lost, while its service stands still.",
    )
    needs: dict[Name, Condition | None] = {}
    retry: Retry = Retry()  # type: ignore[call-arg]
    deadline_s: Seconds = Field(60.0, alias="deadline")
    nice: int = Field(
        0, ge=0, le=19, description="As nice(1): higher leaves the processors to others."
    )

    limits: Limits = Limits()  # type: ignore[call-arg]
    host_files: tuple[AbsolutePath, ...] = Field((), description="More of the host's to read.")

    @model_validator(mode="before")
    @classmethod
    def _needs_as_list(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("needs"), list):
            names = data["needs"]
            if all(isinstance(name, str) for name in names):
                return {**data, "needs": dict.fromkeys(names)}
        return data


class Service(Process):
    """A namespace on the network(s) and, with a command, a process that runs in it."""

    layer: Name = "services"
    when: When | None = None
    namespace: Name | None = Field(None, description="Default: the service's own name.")
    networks: dict[Name, Annotated[Attachment, BeforeValidator(_attachment)]] = {}
    command: tuple[Text, ...] | None = Field(None, min_length=1)
    data: tuple[AbsolutePath, ...] = Field(
        (), description="Directories that are kept over restarts and `down`."
    )
    accounts: dict[Name, Account] = {}
    path_log: AbsolutePath | None = Field(
        None, description="Where it logs each request hop by hop, for the supervisor to read."
    )
    ports: tuple[Annotated[PublishedPort, BeforeValidator(published)], ...] = ()
    listen: Listen | None = None
    outbound: Annotated[
        Literal["allowed", "denied"] | tuple[FlowPort, ...], BeforeValidator(way_out)
    ] = Field(
        "allowed",
        description="To the outside: allowed, denied, or to these ports only, e.g. [443, 53/udp].",
    )
    readiness: Readiness = Readiness()  # type: ignore[call-arg]
    stop: Stop = Stop()  # type: ignore[call-arg]


class PublishedPort(Model):
    """Host port → service port, for clients from everywhere."""

    host: Port
    service: Port


class Prepared(Model):
    """What a job would make alike in every lab: made once per machine, its standard input then."""

    command: tuple[Text, ...] = Field(
        min_length=1,
        description="Writes it to its standard output, without network, data and secrets.",
    )
    programs: tuple[Text, ...] = Field(
        (), description="Others that it runs: it is made anew when one of them was replaced."
    )


class Job(Process):
    """A command that runs to its end once; `of` names the service whose place it takes."""

    of: Name
    command: tuple[Text, ...] = Field(min_length=1)
    network: bool = Field(True, description="False: it needs no network and can start at once.")
    creates: AbsolutePath | None = Field(
        None, description="It is done for good once this path exists (in a data directory)."
    )
    prepared: Prepared | None = None


class Flow(Model):
    """Connections that may be made besides those that follow from needs."""

    sources: Annotated[
        tuple[Name, ...], BeforeValidator(one_or_more), WithJsonSchema(ONE_OR_MORE)
    ] = Field(alias="from", min_length=1, description="Services, or host: the lab's host.")
    targets: Annotated[
        tuple[Name, ...], BeforeValidator(one_or_more), WithJsonSchema(ONE_OR_MORE)
    ] = Field(alias="to", min_length=1, description="Services, or host: the lab's host.")
    ports: tuple[FlowPort, ...] = Field(
        (), description="E.g. [9100, 53/udp]; default: every port that the target declares."
    )
    why: str = Field("", description="Shown by `orchestrator policy`.")


class Expect(Model):
    """What an answer must look like."""

    status: Annotated[int, Field(ge=100, le=599)] = 200
    contains: str = ""
    json_keys: tuple[str, ...] = Field((), alias="json", description="Keys the object must have.")


class CheckStep(Model):
    """One HTTP request from the lab's host."""

    method: Literal["GET", "POST", "PUT", "DELETE"] = "GET"
    url: HttpUrl
    headers: dict[HeaderName, HeaderValue] = {}
    body: JsonObject | None = None
    expect: Expect = Expect()  # type: ignore[call-arg]
    save: dict[Name, str] = Field(
        {}, description="name: key of the answer, for {name} in later URLs and bodies."
    )


class Check(Model):
    """Requests through the platform, in order; a gate of `up`, or a row of `verify` only."""

    title: str = ""
    gate: bool = False
    needs: tuple[Name, ...] = ()
    deadline_s: Seconds = Field(30.0, alias="deadline")
    steps: tuple[CheckStep, ...] = Field(min_length=1)


class Supervision(Model):
    """What the supervisor does about drift and failures."""

    policy: Literal["heal", "alert", "freeze"] = Field(
        "heal",
        description="heal: mend it; alert: tell of it; freeze: change nothing until `up --thaw`.",
    )
    health_interval_s: Seconds = Field(1.0, alias="health_interval")
    start_limit: int = Field(
        5, ge=1, le=1000, description="So many healings within start_window, then given up."
    )
    start_window_s: Seconds = Field(60.0, alias="start_window")
    probe: Name | None = Field(
        None, description="A check whose first request is made each second, for the client's view."
    )
    port: int = Field(
        9464,
        ge=0,
        le=65535,
        description="Page and metrics on the host's loopback, metrics on the bridges; 0: none.",
    )
    setup_budget_s: Seconds = Field(
        5.0,
        alias="setup_budget",
        description="What `up` may take; an alert tells if it took more.",
    )
    trace_one_in: int = Field(10, ge=1, description="Of so many requests one is kept for `trace`.")


class Stack(Model):
    """A whole platform: networks, services, jobs, secrets, checks."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    networks: dict[InterfaceName, Network] = Field(min_length=1)
    path: tuple[Text, ...] = Field(
        (), description="Directories (globs) put before PATH; of several matches the newest."
    )
    secrets: tuple[Name, ...] = Field((), description="Random passwords made at first start.")
    services: dict[Name, Service] = Field(min_length=1, max_length=1000)
    jobs: dict[Name, Job] = {}
    flows: tuple[Flow, ...] = Field(
        (), description="Connections besides those from who needs to what is needed."
    )
    checks: dict[Name, Check] = {}
    supervision: Supervision = Supervision()  # type: ignore[call-arg]
