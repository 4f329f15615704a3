"""The whole audit of a lab: looks at what runs, asks the servers, judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.app import App
from orchestrator.audit import judging, looking, servers
from orchestrator.audit.findings import Finding, Verdict, judged, unknown
from orchestrator.audit.judging import Claim, Host
from orchestrator.audit.looking import Seen
from orchestrator.errors import OrchestratorError
from orchestrator.flows import flows_of
from orchestrator.kernel.listening import listening
from orchestrator.processes import cgroup, seccomp
from orchestrator.processes.sandbox import NOTIFY_SOCKET
from orchestrator.processes.service import Program, Service
from orchestrator.spec import Account, PostgresProbe, RedisProbe

HIDDEN = tuple(
    Path(each)
    for each in ("/home", "/sys", "/boot", "/etc/shadow", "/etc/ssh", "/etc/systemd", "/var/lib",
                 "/var/log", "/var/run")
)  # fmt: skip


async def audit(app: App) -> list[Finding]:
    """Every finding, section by section; what cannot be looked at is one, too.

    Raises HostError, OrchestratorError if nothing is up.
    """
    programs = {
        name.partition(":")[2]: node.resource.program
        for name, node in app.nodes.items()
        if isinstance(node.resource, Service)
    }
    hidden = (*HIDDEN, app.lab.state_dir, app.lab.run_dir)
    seen = {name: looking.look(each.mark, hidden) for name, each in programs.items()}
    running = {name: each for name, each in seen.items() if each is not None}
    if not running:
        raise OrchestratorError("cannot audit: no service runs\n  mend: `orchestrator up`")
    found = [*_of_files(app, programs)]
    host = _host(app)
    for name, each in running.items():
        others = {other: facts for other, facts in running.items() if other != name}
        claim = _claim(app, name, programs[name])
        found += judging.of_service(claim, each, others, host)
        found.append(_limits(name, programs[name], each))
        found.append(_listening(claim, programs[name], each, running, app))
    found += [
        Finding("2.1", name, Verdict.FAIL, "it does not run")
        for name in programs
        if name not in running
    ]
    return [*found, *await _of_servers(app, running)]


def _of_files(app: App, programs: Mapping[str, Program]) -> Iterator[Finding]:
    kept = app.compiler.secrets
    directories = (kept.directory, kept.copies)
    wrong = [
        f"{name} is gone: `orchestrator up` {'brings it back' if kept.known(name) else 'mends it'}"
        for name in kept.missing(app.stack.secrets)
    ]
    count = 0
    for directory in directories:
        top, inside = looking.entry(directory), looking.entries(directory)
        wrong += [] if top else [f"{directory} is not there"]
        for each, allowed in ((top, 0o700), *((each, 0o600) for each in inside)):
            if each and (each.mode & ~allowed or each.uid != 0):
                wrong.append(f"{each.path} has mode {each.mode:04o}, owner {each.uid}")
        count += len(inside)
    places = " and ".join(map(str, directories))
    yield judged("1.1", "host", wrong, f"{places}: 0700, {count} files 0600, root's")
    if lost := [name for name in app.stack.secrets if not kept.known(name)]:
        yield unknown("2.9", "host", f"nobody can look for what is gone: {', '.join(lost)}")
    for name, program in programs.items():
        for outside in program.data.values():
            seen = looking.entry(outside)
            faults = [] if seen else [f"{outside} is not there"]
            if seen and (seen.mode & 0o077 or seen.uid != program.user.uid):
                faults.append(f"{outside} has mode {seen.mode:04o}, owner {seen.uid}")
            yield judged("1.2", name, faults, f"{outside}: 0700, owner {program.user.uid}")


def _host(app: App) -> Host:
    kept = app.compiler.secrets
    texts = {name: known[0] for name in app.stack.secrets if (known := kept.known(name))}
    return Host(
        namespaces=looking.namespaces_of("self"),
        secrets=texts,
        lab_places=(f"{app.lab.state_dir}/", f"{app.lab.run_dir}/"),
        devices={
            place: Path(place).stat().st_dev
            for place in ("/tmp", "/run", "/dev/shm", "/var/tmp")
            if Path(place).exists()
        },
        has_filter=bool(seccomp.program()),
    )


def _claim(app: App, name: str, program: Program) -> Claim:
    spec = app.stack.services[name]
    namespace = program.namespace
    target = app.stack.namespace_of(name)
    return Claim(
        name,
        program.user.uid,
        (*program.data, NOTIFY_SOCKET),
        frozenset(spec.secrets),
        namespace.stat().st_ino if namespace and namespace.exists() else 0,
        frozenset(flow.port for flow in flows_of(app.stack) if flow.target == target),
        (str(program.log), *(f"{path}/" for path in program.data.values())),
    )


def _limits(name: str, program: Program, seen: Seen) -> Finding:
    """By control group where there is one, else by prlimit(2)."""
    pids = [each.pid for each in seen.processes if not each.is_init]
    wrong = [fault for pid in pids if (fault := program.group.lost(pid))]
    how = "prlimit" if cgroup.lacking() else f"cgroup v{cgroup.version()}"
    memory = program.group.limits.memory_bytes >> 20
    text = f"{memory} MiB, {program.group.limits.tasks} tasks ({how}: /{program.group.path})"
    return judged("2.11", name, wrong, text)


def _listening(
    claim: Claim, program: Program, seen: Seen, running: Mapping[str, Seen], app: App
) -> Finding:
    """Sockets of its namespace; whose they are tells the process that holds them."""
    own = {inode for each in seen.processes for inode in each.sockets}
    space = app.stack.namespace_of(claim.name)
    shared = {
        inode
        for name, facts in running.items()
        if app.stack.namespace_of(name) == space
        for each in facts.processes
        for inode in each.sockets
    }
    wrong, ports = [], []
    try:
        sockets = listening(program.namespace)
    except OrchestratorError as error:
        return unknown("2.12", claim.name, error)
    for each in sockets:
        if each.inode in own:
            ports.append(each.port)
            if not each.is_local and each.port not in claim.ports:
                wrong.append(f"port {each.port} on {each.address} is not declared")
        elif each.inode not in shared:
            wrong.append(f"port {each.port} on {each.address} is held by no process of the lab")
    listed = ", ".join(str(port) for port in sorted(set(ports))) or "none"
    return judged("2.12", claim.name, wrong, f"ports {listed}")


async def _of_servers(app: App, running: Mapping[str, Seen]) -> list[Finding]:
    """PostgreSQL and Redis are recognized by their readiness."""
    found: list[Finding] = []
    for name, spec in app.stack.services.items():
        if name not in running or not spec.accounts:
            continue
        if spec.readiness.postgres is not None:
            try:
                found += await _of_postgres(app, name, spec.readiness.postgres, spec.accounts)
            except OrchestratorError as error:
                found += [unknown(check, name, error) for check in ("3.1", "3.2")]
        if spec.readiness.redis is not None:
            try:
                found += await _of_redis(app, name, spec.readiness.redis, spec.accounts)
            except OrchestratorError as error:
                found.append(unknown("3.3", name, error))
    return found


async def _of_postgres(
    app: App, name: str, want: PostgresProbe, accounts: Mapping[str, Account]
) -> list[Finding]:
    return await servers.postgres(
        name,
        (str(app.stack.address_of(name)), want.port),
        want.database,
        want.user,
        _passwords(app, name, want.password),
        accounts,
    )


async def _of_redis(
    app: App, name: str, want: RedisProbe, accounts: Mapping[str, Account]
) -> list[Finding]:
    admin = next((n for n, each in accounts.items() if "+acl" in each.may), "default")
    account = accounts.get(admin)
    return await servers.redis(
        name,
        (str(app.stack.address_of(name)), want.port),
        admin,
        _passwords(app, name, account.secret if account else None),
        accounts,
    )


def _passwords(app: App, name: str, secret: str | None) -> tuple[str | None, ...]:
    """What the server takes. Raises OrchestratorError if nobody knows it any more."""
    known = app.compiler.secrets.known(secret) if secret else (None,)
    if not known:
        raise OrchestratorError(f"cannot ask {name}: its secret {secret} is gone")
    return known
