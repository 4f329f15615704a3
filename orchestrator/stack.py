"""The desired platform to nodes: the only module that knows every kind of resource."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Callable, Collection, Mapping
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.engine.plan import Node, RetryPolicy, Stage
from orchestrator.errors import Problem, SpecError
from orchestrator.kernel.bridge import Bridge
from orchestrator.kernel.namespace import Namespace, NamespaceDirectory
from orchestrator.kernel.netlink import Netlink
from orchestrator.kernel.sysctl import Sysctl
from orchestrator.kernel.veth import Veth
from orchestrator.kinds import LAYERS_OF_KINDS, kind_of, outlived, partings
from orchestrator.lab import MARKS, Lab
from orchestrator.linux import NETNS_DIR
from orchestrator.naming import hosts_for, resolver
from orchestrator.policies import guard_of, rules_of
from orchestrator.processes.cgroup import Group, Limits
from orchestrator.processes.check import Milestone
from orchestrator.processes.files import Folder
from orchestrator.processes.gate import Probes, ServiceGate
from orchestrator.processes.hostlink import HostLink
from orchestrator.processes.listener import Listener
from orchestrator.processes.notify import Notifications
from orchestrator.processes.prepared import Prepared, Store
from orchestrator.processes.sandbox import User
from orchestrator.processes.secrets import Secrets
from orchestrator.processes.service import Job, Program, Service
from orchestrator.programs import search_path
from orchestrator.questions import check_probe, probes_of
from orchestrator.remembered import Remembered
from orchestrator.resource import Emit, Gate, Resource
from orchestrator.spec import PORT_SIDE, Condition, Process, Stack
from orchestrator.spec import Service as SpecService
from orchestrator.templates import Templates
from orchestrator.users import uids_of

STAGES = {
    Condition.STARTED: Stage.STARTED,
    Condition.READY: Stage.READY,
    Condition.COMPLETED: Stage.READY,
    Condition.BESIDE: Stage.BESIDE,
}


class Compiler(Struct, frozen=True):
    """Turns a valid stack into nodes for one lab. `memory` is this machine's, across labs."""

    stack: Stack
    lab: Lab
    directory: Path
    memory: Path
    emit: Emit
    netlink: Netlink
    secrets: Secrets
    whole: Stack | None = None  # with services that are left out on this host
    compiled: Mapping[str, bytes] = field(default_factory=dict)  # templates, see Templates
    exists: Callable[[str], bool] = os.path.exists  # what templates may ask of this host
    remembered: Remembered | None = None  # what they came to before
    _hosts: dict[frozenset[str], str] = field(default_factory=dict)  # by networks
    _path: list[str] = field(default_factory=list)

    @property
    def templates(self) -> Templates:
        return Templates(
            self.stack,
            self.whole or self.stack,
            self.directory,
            self.secrets,
            self.compiled,
            self.exists,
            self.remembered,
        )

    def check_templates(self) -> None:
        """Raises SpecError for templates that cannot be read or parsed."""
        self.templates.check()

    @property
    def host_memory(self) -> Path:
        """What is remembered of the network namespace that is this lab's host."""
        return self.memory / str(Path("/proc/self/ns/net").stat().st_ino)

    def nodes(self) -> dict[str, Node]:
        """Every node by its name. Raises SpecError for a user that this host does not have."""
        found = [*self._network(), *self._rules()]
        uids = uids_of(self.lab, self.stack.services)
        for name in self.stack.services:
            found += self._service(name, uids[name])
        found += [
            self._job(name, uids[job.of])
            for name, job in self.stack.jobs.items()
            if job.rotation != "only"
        ]
        gates = [name for name, check in self.stack.checks.items() if check.gate]
        found += [self._check(name) for name in gates]
        names = [node.name for node in found]
        return {each.name: replace(each, outlives=outlived(each.name, names)) for each in found}

    def rotating(self, names: Collection[str], *rotations: str) -> dict[str, Node]:
        """Jobs with such a `rotation` that know one of these secrets, to be run whatever they
        have done before."""
        uids = uids_of(self.lab, self.stack.services)
        found = [
            self._job(name, uids[job.of], is_due=True)
            for name, job in self.stack.jobs.items()
            if job.rotation in rotations
            and {*job.secrets, *self.stack.services[job.of].secrets} & {*names}
        ]
        return {node.name: node for node in found}

    # -- network -------------------------------------------------------------------------

    def _network(self) -> list[Node]:
        lab = self.lab
        found = [self._node(NamespaceDirectory(self.memory / "netns-directory"), {})]
        for name, network in self.stack.networks.items():
            bridge = Bridge(name, network.address, lab.mac(name), lab.mark, lab.group, self.netlink)
            found.append(self._node(bridge, {}))
        for name, service in self.stack.services.items():
            if not service.networks:
                continue
            namespace = self._namespace(name)
            found.append(self._node(namespace, {"mount:netns": Stage.READY}))
            for index, bridge_name in enumerate(service.networks):
                found.append(
                    self._node(
                        self._veth(name, bridge_name, namespace.path, is_first=index == 0),
                        {namespace.name: Stage.READY, f"bridge:{bridge_name}": Stage.READY},
                    )
                )
        return found

    def _namespace(self, service: str) -> Namespace:
        name = self.stack.namespace_of(service)
        return Namespace(
            f"netns:{name}",
            self.lab.namespace(name),
            self.lab.mark,
            self.lab.group,
            {"hosts": self.hosts(service), **resolver()},
            self.netlink,
        )

    def _veth(self, service: str, network: str, namespace: Path, *, is_first: bool) -> Veth:
        spec = self.stack.services[service].networks[network]
        bridge = self.stack.networks[network].address
        inner = self.stack.interface_of(service, network)
        own = self.stack.namespace_of(service)
        return Veth(
            f"veth:{own}" if is_first else f"veth:{own}.{network}",
            bridge=network,
            outer=inner + PORT_SIDE,
            inner=inner,
            namespace=namespace,
            address=IPv4Interface(f"{spec.address}/{bridge.network.prefixlen}"),
            gateway=bridge.ip if is_first else None,
            mac=self.lab.mac(inner),
            outer_mac=self.lab.mac(inner + PORT_SIDE),
            hairpin=any(
                other.ports
                for name, other in self.stack.services.items()
                if self.stack.namespace_of(name) == own
            ),
            mark=self.lab.mark,
            group=self.lab.group,
            netlink=self.netlink,
        )

    def hosts(self, service: str) -> str:
        """/etc/hosts: every service's name, on a network that both share where there is one."""
        own = frozenset(self.stack.services[self.stack.home_of(service)].networks)
        if own not in self._hosts:
            self._hosts[own] = hosts_for(self.stack, own)
        return self._hosts[own]

    def _rules(self) -> list[Node]:
        tables = self.host_memory / f"tables-{self.lab.name}"
        nat, policies = rules_of(self.stack, self.lab, tables)
        forwarding = Sysctl(
            "net.ipv4.ip_forward",
            "1",
            self.lab.name,
            self.host_memory / "sysctl",
            self._foreign_bridges,
            self.emit,
        )
        guard = guard_of(self.stack, self.lab, self.emit)
        # A policy judges by the source address, which the guard makes true.
        judging = [
            self._node(each, {f"netns:{each.label}": Stage.READY, guard.name: Stage.READY})
            for each in policies
        ]
        return [self._node(each, {}) for each in (forwarding, nat, guard)] + judging

    def _foreign_bridges(self) -> set[str]:
        """Bridges of others: who has one needs forwarding."""
        bridges = self.netlink.of_kind("bridge")
        return {link.name for link in bridges if not link.alias.startswith(MARKS)}

    # -- processes -----------------------------------------------------------------------

    def _service(self, name: str, uid: int) -> list[Node]:
        spec = self.stack.services[name]
        if spec.command is None:
            return []
        label = f"service:{name}"
        program = self._program(label, name, name, spec, spec.command, uid)
        ready = spec.readiness
        notify = Notifications(program.folder.path / "notify") if ready.notify else None
        before = tuple(
            f"{self.lab.mark}/job:{need}"
            for need in spec.needs
            if need in self.stack.jobs and self.stack.jobs[need].of == name
        )
        stop = spec.stop
        service = Service(program, signal.Signals[stop.signal], stop.grace_s, notify, before)
        gate = ServiceGate(
            service,
            Probes(label, probes_of(self.stack, name, self.secrets), ready.interval_s, self.emit),
            self.stack.is_awaited(name),
        )
        needs = {**self._place_needs(name), **self._needs(spec.needs)}
        found = [self._node(service, needs, gate=gate, spec=spec, layer=spec.layer)]
        if not self.lab.host:
            found += [
                self._node(
                    HostLink(
                        Path(path),
                        program.folder.place_of(path),
                        self.lab.run_dir / "links" / path.strip("/").replace("/", "-"),
                        self.emit,
                    ),
                    {label: Stage.STARTED},
                    layer=spec.layer,
                )
                for path, file in spec.files.items()
                if file.on_host
            ]
        return found

    def _job(self, name: str, uid: int, *, is_due: bool = False) -> Node:
        spec = self.stack.jobs[name]
        label = f"job:{name}"
        program = self._program(label, name, spec.of, spec, spec.command, uid)
        creates = None
        if spec.creates is not None:
            for inside, outside in program.data.items():
                if spec.creates.startswith(f"{inside}/"):
                    creates = outside / spec.creates.removeprefix(f"{inside}/")
        needs = self._needs(spec.needs)
        if spec.network:
            needs |= self._place_needs(spec.of)
        layer = self.stack.services[spec.of].layer
        prepared = None
        if spec.prepared is not None:
            prepared = Prepared(
                label,
                Store(self.lab.cache_root),
                spec.prepared.command,
                {**self._environment(), **spec.environment},
                spec.prepared.programs,
                self.directory,
            )
        job = Job(program, creates, self.lab.run_dir / "jobs" / name, prepared, is_due)
        return self._node(job, needs, spec=spec, layer=layer)

    def _program(
        self, label: str, name: str, of: str, spec: Process, command: tuple[str, ...], uid: int
    ) -> Program:
        service = self.stack.services[of]
        has_network = getattr(spec, "network", True)
        namespace = self.stack.namespace_of(of)
        files = {**service.files, **spec.files} if spec is not service else spec.files
        names = tuple(dict.fromkeys((*service.secrets, *spec.secrets)))
        kept = self.lab.data_dir / of
        data = {path: kept / path.strip("/").replace("/", "-") for path in service.data}
        if service.path_log is not None:
            data[str(Path(service.path_log).parent)] = self.lab.path_logs(of)
        described = partial(self.templates.describe, label, files, spec.environment, names)
        user = self._user(spec.user if spec.user != "auto" else service.user, name, of, uid)
        return Program(
            node=label,
            mark=f"{self.lab.mark}/{label}",
            command=command,
            user=user,
            environment={**self._environment(), **spec.environment},
            files=partial(self.templates.render, label, files, spec.environment),
            paths=tuple(files),
            secrets=partial(self.secrets.files, names),
            described=described if spec.rotation in ("live", "only") else None,
            data=data,
            stack_dir=self.directory,
            namespace=NETNS_DIR / self.lab.namespace(namespace) if has_network else None,
            hostname=of,
            hosts=self.hosts(of),
            folder=Folder(self.lab.run_dir / "nodes" / name),
            etc=self.lab.run_dir / "etc",
            log=self.lab.log(name),
            emit=self.emit,
            group=Group(self.lab.name, label, Limits(spec.limits.memory, spec.limits.tasks)),
            listener=_listener(spec),
            nice=spec.nice,
            host_files=spec.host_files,
        )

    def _place_needs(self, service: str) -> dict[str, Stage]:
        """The namespace with its policy and all of its links."""
        home = self.stack.home_of(service)
        namespace = self.stack.namespace_of(home)
        found = {f"netns:{namespace}": Stage.READY, f"policy:{namespace}": Stage.READY}
        for index, network in enumerate(self.stack.services[home].networks):
            name = f"veth:{namespace}" if index == 0 else f"veth:{namespace}.{network}"
            found[name] = Stage.READY
        return found

    def _needs(self, needs: Mapping[str, Condition | None]) -> dict[str, Stage]:
        found: dict[str, Stage] = {}
        for name, given in needs.items():
            stage = STAGES[self.stack.condition_of(name, given)]
            if name in self.stack.jobs:
                found[f"job:{name}"] = stage
            elif self.stack.services[name].command is not None:
                found[f"service:{name}"] = stage
            else:
                found |= self._place_needs(name)
        return found

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": ":".join(self.search_path()),
            "LANG": "C.UTF-8",
            "HOME": "/tmp",
            "PYTHONUNBUFFERED": "1",
        }

    def search_path(self) -> list[str]:
        """Directories in which commands are looked for, first match wins."""
        if not self._path:
            self._path.extend(search_path(self.stack))
        return self._path

    def _user(self, wanted: str, name: str, of: str, uid: int) -> User:
        if wanted == "auto":
            return User(uid, uid, of[:31])
        try:
            entry = pwd.getpwnam(wanted)
        except KeyError as error:
            kind = "services" if name in self.stack.services else "jobs"
            problem = Problem(f"{kind}.{name}.user", 1, f"this host has no user {wanted}")
            raise SpecError("stack", [problem]) from error
        return User(entry.pw_uid, entry.pw_gid, wanted)

    # -- gates ---------------------------------------------------------------------------

    def _check(self, name: str) -> Node:
        check = self.stack.checks[name]
        label = f"check:{name}"
        gate = Probes(label, [check_probe(check)], 0.1, self.emit)
        everything = [*self.stack.services, *self.stack.jobs]
        needs = {
            "nat:rules": Stage.READY,
            "sysctl:ip_forward": Stage.READY,
            **self._needs(dict.fromkeys(check.needs or everything)),
        }
        return self._node(Milestone(label), needs, gate=gate, deadline_s=check.deadline_s)

    def _node(
        self,
        resource: Resource,
        needs: Mapping[str, Stage],
        *,
        gate: Gate | None = None,
        spec: Process | None = None,
        layer: str = "",
        deadline_s: float = 30.0,
    ) -> Node:
        retry = RetryPolicy()
        if spec is not None:
            given = spec.retry
            retry = RetryPolicy(given.attempts, given.backoff_s, given.max_backoff_s)
            deadline_s = spec.deadline_s
        layer = layer or LAYERS_OF_KINDS[kind_of(resource.name)]
        parting = partings(resource.name, needs)
        return Node(resource, layer, needs, gate, retry, deadline_s, parting)


def _listener(spec: Process) -> Listener | None:
    given = spec.listen if isinstance(spec, SpecService) else None
    return None if given is None else Listener(given.port, given.handover, given.backlog)
