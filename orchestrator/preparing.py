"""Makes what jobs of a stack find prepared: by `orchestrator prepare`, or the supervisor when it is
missing. In a sandbox without network, data and secrets; `up` itself never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from orchestrator import known
from orchestrator.app import App
from orchestrator.errors import ProcessError, ResourceError
from orchestrator.linux import in_thread_to_its_end
from orchestrator.processes import child, prepared
from orchestrator.processes.cgroup import Group
from orchestrator.processes.files import Folder
from orchestrator.processes.prepared import PREPARES, Prepared, RefusedError
from orchestrator.processes.service import Job, Program
from orchestrator.validation import check_templates

DEADLINE_S = 120.0
STACK = "stack"  # among what was prepared: what reading its file came to
NICE = 19  # it is for the next lab: whatever runs goes first


def jobs(app: App) -> Iterator[tuple[Program, Prepared]]:
    """Those that take something prepared: how they run, and what it is."""
    for node in app.nodes.values():
        if isinstance(node.resource, Job) and node.resource.prepared is not None:
            yield node.resource.program, node.resource.prepared


def lacking(app: App) -> list[str]:
    """Jobs whose prepared file is not there, by a glance. Raises RefusedError, OSError."""
    found = [of.node for _, of in jobs(app) if not of.store.has(of.key)]
    return found if app.is_sound() else [*found, STACK]


async def prepare(app: App) -> dict[str, str]:
    """Makes what is missing or cannot be trusted. What came of each job: a file's path, or what
    stood in the way of nothing worse than time. Raises ProcessError, ResourceError."""
    found = {}
    for program, wanted in jobs(app):
        try:
            with wanted.store.writing() as directory:
                if directory is None:
                    found[wanted.node] = "another process is at it"
                    continue
                present, _ = wanted.store.open(wanted.key)
                if present is not None:
                    os.close(present)
                    found[wanted.node] = f"there: {wanted.store.directory}"
                    continue
                name = await _make(app, program, wanted, directory)
                found[wanted.node] = f"made: {wanted.store.directory / name}"
        except (RefusedError, OSError) as error:
            raise ResourceError(
                wanted.node, f"prepare in {wanted.store.directory} for", str(error)
            ) from error
    found[STACK] = _kept(app)
    return found


def _kept(app: App) -> str:
    """What came of keeping what is known of the stack. Raises ResourceError, SpecError."""
    place = app.lab.cache_root
    try:
        if app.is_sound():
            return f"there: {place / known.DIRECTORY}"
        path = known.keep(app.text, check_templates(app, "stack"), place)
    except (RefusedError, OSError) as error:
        raise ResourceError(STACK, f"keep in {place} what is known of", str(error)) from error
    return f"made: {path}" if path else "another process is at it"


async def _make(app: App, program: Program, wanted: Prepared, directory: int) -> str:
    draft = prepared.draft(directory)
    try:
        with _place(app, program) as place:
            await _run(_alone(app, program, wanted, place), draft)
        if os.fstat(draft).st_size == 0:
            raise ProcessError(wanted.node, "prepare for", "its command wrote nothing")
        key = wanted.key  # of now: of programs that were replaced meanwhile it is not made
        return await in_thread_to_its_end(prepared.publish, directory, key, draft)
    finally:
        os.close(draft)


@contextlib.contextmanager
def _place(app: App, program: Program) -> Iterator[Path]:
    """An empty directory of root's, and none afterwards, nor those above it that held no other."""
    place = app.lab.prepare_dir / program.node.partition(":")[2]
    shutil.rmtree(place, ignore_errors=True)  # what a killed one has left
    place.mkdir(mode=0o700, parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            place.parent.rmdir()
            app.lab.run_root.rmdir()


def _alone(app: App, program: Program, wanted: Prepared, place: Path) -> Program:
    """The job's program with the other command, and nothing of the lab."""
    name = f"{PREPARES}{program.node.partition(':')[2]}"
    return replace(
        program,
        node=name,
        mark=f"{app.lab.mark}/{name}",
        command=wanted.command,
        environment=wanted.environment,
        files=dict,
        secrets=dict,
        described=None,
        data={},
        namespace=None,
        folder=Folder(place / "node"),
        etc=place / "etc",
        log=place / "log",
        emit=lambda _: None,
        group=Group(app.lab.name, name, program.group.limits),
        nice=NICE,
    )


async def _run(program: Program, output: int) -> None:
    """Raises ProcessError. Whatever ends this ends the program first."""
    await _stop(program)  # what a killed one has left
    try:
        running = await program.start(notify=None, output=output)
        try:
            async with asyncio.timeout(DEADLINE_S):
                code = await child.exit_code(running)
        except TimeoutError as error:
            reason = f"not done within {DEADLINE_S:g} s"
            raise ProcessError(program.node, "run", reason, log=running.log_lines()) from error
    finally:
        await _stop(program)
        program.forget()
    if code != 0:
        log = running.log_lines()
        raise ProcessError(program.node, "run", f"it ended with exit code {code}", log=log)


async def _stop(program: Program) -> None:
    await child.stop(program.running(), stop_signal=signal.SIGKILL, grace_s=0)
