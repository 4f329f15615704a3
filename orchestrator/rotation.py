"""Secrets exchanged for new ones while the platform serves: servers first, then their clients.

1. accept: next secrets are made; running programs that read secrets anew get them beside the old
   ones; jobs with `rotation: live` or `only` make the servers take them.
2. retire: the next ones become the present ones, everywhere; programs that read secrets only at
   their start are restarted; the same jobs make the servers forget the old ones.

Each step may be repeated, and the lab serves between any two of them; so after a crash the next
`up` or `rotate` goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from orchestrator.attendance import Attendance
from orchestrator.engine.executor import Result
from orchestrator.engine.plan import Node
from orchestrator.errors import OrchestratorError
from orchestrator.events import Action, Outcome
from orchestrator.lock import PATIENCE_S, lock
from orchestrator.processes import procfs
from orchestrator.processes.secrets import Phase, Rotation
from orchestrator.processes.service import Service
from orchestrator.replay import subgraph
from orchestrator.resource import State, is_absent

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.engine.bus import Sight
    from orchestrator.lab import Lab

Complain = Callable[[str], None]
HANDING_ON = ("live", "only")  # rotations of jobs that are run while their servers serve


async def rotate(
    app: App,
    names: Collection[str],
    sights: list[Sight],
    *,
    complain: Complain,
    supervisor: Attendance | None = None,
) -> Result:
    """Exchanges these secrets, all without names. Raises BusyError, and OrchestratorError if
    the servers that have to learn them are not up."""
    wanted = tuple(dict.fromkeys(names or app.stack.secrets))
    secrets = app.compiler.secrets

    async def work() -> Result:
        secrets.bring_back()
        secrets.refuse_lost(app.stack.secrets)
        if under_way := secrets.rotation():
            result = await finish(app, under_way, sights, complain=complain)
            if result.outcome is Outcome.FAILED or set(wanted) <= set(under_way.names):
                return result
        await _require_up(app, wanted)
        return await finish(app, secrets.begin(wanted), sights, complain=complain)

    async with lock(app.lab, "rotate", patience_s=PATIENCE_S) as held:
        return await (supervisor or Attendance()).around(held, work)


def learning(app: App, names: Collection[str]) -> set[str]:
    """Services that have to learn new ones of these secrets, by the names of their nodes: those
    that read them, and those that the jobs which hand them on are about."""
    found = holding(app, names)
    for name, service in app.stack.services.items():
        if {*service.secrets} & {*names}:
            found.add(f"service:{name}")
    for node in app.compiler.rotating(names, *HANDING_ON):
        job = app.stack.jobs[node.removeprefix("job:")]
        found |= {f"service:{each}" for each in (job.of, *job.needs) if each in app.stack.services}
    return found


async def _require_up(app: App, names: Collection[str]) -> None:
    """Of others it makes no difference: they may be down, or fail and be started over and over."""
    every = [name for name, node in app.nodes.items() if isinstance(node.resource, Service)]
    learners = learning(app, names)
    services = [name for name in every if name in learners] or every
    if not services or (broken := await app.broken(services)):
        missing = ", ".join(broken) if services else "every service"
        raise OrchestratorError(
            f"cannot rotate secrets: {missing} is not as wanted, and has to learn the new ones\n"
            "  mend: `orchestrator up`"
        )


def is_new(lab: Lab) -> bool:
    """Whether nobody can know secrets of the lab: nothing of it runs, and it has no data."""
    return not lab.data_dir.exists() and not procfs.sandboxes_below(f"{lab.mark}/")


def with_secrets(app: App, complain: Complain) -> Rotation | None:
    """Makes what an `up` misses. Returns the rotation that is under way then."""
    secrets, lab = app.compiler.secrets, app.lab
    for name in secrets.ensure(app.stack.secrets, is_new=is_new(lab)):
        complain(f"the secret {name} was not there; it is made now")
    return secrets.rotation()


async def learning_anew(
    app: App, lost: Collection[str], sights: list[Sight], *, complain: Complain
) -> dict[str, Node]:
    """Jobs of an `up` that make servers take what was made in place of `lost` secrets; servers
    that must not run meanwhile are stopped for it. The caller holds the lab."""
    if not lost:
        return {}
    _publish(app.nodes.values())
    apart = app.compiler.rotating(lost, "lost")
    servers = {
        name: app.nodes[f"service:{app.stack.jobs[name.removeprefix('job:')].of}"] for name in apart
    }
    every = {node.name: node.resource for node in servers.values()}
    if running := [name for name, server in every.items() if not await is_absent(server)]:
        await app.run("stop", subgraph(app.nodes, running), Action.REMOVE, sights, complain)
    alone = {name: apart[name] for name in apart if await is_absent(servers[name].resource)}
    return {**app.compiler.rotating(lost, "live"), **alone}


def holding(app: App, names: Collection[str]) -> set[str]:
    """Services with one of these secrets in a file or variable of theirs, which no program reads
    anew, by the names of their nodes."""
    return {
        f"service:{name}"
        for name, service in app.stack.services.items()
        if {*app.compiler.templates.asked(name, service.files, service.environment)} & {*names}
    }


async def finish(
    app: App, rotation: Rotation, sights: list[Sight], *, complain: Complain
) -> Result:
    """Goes on with a rotation to its end; the caller holds the lab."""
    secrets = app.compiler.secrets
    if rotation.phase is Phase.ACCEPT:
        _publish(app.nodes.values())
        jobs = app.compiler.rotating(rotation.names, *HANDING_ON)
        if jobs:
            result = await app.run("rotate", subgraph(jobs, jobs), Action.ENSURE, sights, complain)
            if result.outcome is Outcome.FAILED:
                return result
    app.remembered.forget()
    secrets.exchange(rotation)
    nodes = app.compiler.nodes()  # anew: they know the secrets that they were made with
    _publish(nodes.values())
    jobs = app.compiler.rotating(rotation.names, *HANDING_ON)
    learners = learning(app, rotation.names)
    restarted = [name for name in nodes if name in learners and await _is_outdated(nodes[name])]
    acted = subgraph({**nodes, **jobs}, {*jobs, *restarted})
    result = await app.run("rotate", acted, Action.ENSURE, sights, complain)
    if result.outcome is not Outcome.FAILED:
        secrets.end()
    return result


def _publish(nodes: Collection[Node]) -> None:
    """Puts secrets where running programs read them anew."""
    for node in nodes:
        if isinstance(node.resource, Service) and node.resource.program.described is not None:
            program = node.resource.program
            if program.folder.path.exists() and program.secrets():
                program.publish()


async def _is_outdated(node: Node) -> bool:
    """Whether it is a service that was started with what is no longer so."""
    if not isinstance(node.resource, Service):
        return False
    return (await node.resource.observe()).state is State.PARTIAL
