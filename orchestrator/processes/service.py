"""Resources: a service (a process that stays) and a job (one that runs to its end)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from msgspec import Struct, field

from orchestrator.errors import OrchestratorError, ProcessError
from orchestrator.events import Noticed, Outcome, ProcessExited, ProcessStarted
from orchestrator.linux import AHEAD, in_thread_to_its_end, set_session_nice
from orchestrator.processes import child, etc, mounted, procfs
from orchestrator.processes.cgroup import Group
from orchestrator.processes.files import Folder, ensure_data_directory, identity_of
from orchestrator.processes.listener import Listener, close, program_of
from orchestrator.processes.notify import Notifications
from orchestrator.processes.prepared import Prepared
from orchestrator.processes.sandbox import NOTIFY_SOCKET, SECRETS_DIR, STACK_DIR, Sandbox, User
from orchestrator.resource import Emit, Observation, State

Render = Callable[[], Mapping[str, str]]


def interpreter_paths() -> dict[str, Path]:
    """Where this Python and its packages live, as far as that is not /usr.

    Services use the same ones; both may lie in a home directory that they cannot enter.
    """
    places = {Path(sys.prefix), Path(sys.base_prefix)}
    return {str(path): path for path in places if not path.is_relative_to("/usr")}


class Program(Struct, frozen=True, dict=True):
    """What a process is started from; everything that its digest covers.

    `files` and `secrets` are rendered when they are needed: texts by their path inside; `paths`
    are those of the files.
    """

    node: str
    mark: str
    command: tuple[str, ...]
    user: User
    environment: Mapping[str, str]
    files: Render
    paths: tuple[str, ...]
    secrets: Render
    described: Render | None  # in the digest in place of files and secrets: it lives with new ones
    data: Mapping[str, Path]  # path inside → directory on the host
    stack_dir: Path
    namespace: Path | None
    hostname: str
    hosts: str
    folder: Folder
    etc: Path  # the lab's, for etc.py
    log: Path
    emit: Emit
    group: Group
    listener: Listener | None = None
    nice: int = 0
    host_files: tuple[str, ...] = ()  # what it sees of the host, besides what all see

    def _texts(self) -> dict[str, str]:
        if self.described is not None:
            return dict(self.described())
        secrets = {f"{SECRETS_DIR}/{name}": text for name, text in self.secrets().items()}
        return {**self.files(), **secrets}

    @cached_property
    def digest(self) -> str:
        """Changes with anything that would make the process another one."""
        parts = [
            self.command,
            [self.user.uid, self.user.gid],
            dict(self.environment),
            self._texts(),
            {inside: str(path) for inside, path in self.data.items()},
            str(self.stack_dir),
            self.listener and [self.listener.port, self.listener.handover],
            self.nice,
            self.host_files,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def is_same(self, digest: str) -> bool:
        """Whether that digest is this program's; what cannot be rendered is not the same."""
        try:
            return digest == self.digest
        except OrchestratorError:
            return False

    def lost(self, init: int) -> str:
        """What the running sandbox has not mounted any more."""
        files = {inside: self.folder.place_of(inside) for inside in self.paths}
        return mounted.lost(init, self.etc, files, self.data)

    def unlimited(self, init: int) -> str:
        """How the limits of the running sandbox differ from what they should be; or nothing."""
        return next(filter(None, map(self.group.lost, procfs.children(init))), "")

    def limit(self, init: int) -> None:
        """Puts what runs under its limits. Raises ProcessError."""
        try:
            self.group.confine([init, *procfs.descendants(init)])
        except OSError as error:
            raise ProcessError(self.node, "limit", str(error)) from error

    def forget(self) -> None:
        """Takes away what lay ready for it; nothing runs any more."""
        self.folder.remove()
        self.group.remove()

    def running(self) -> list[procfs.Sandbox]:
        return procfs.sandboxes(self.mark)

    async def start(
        self,
        *,
        notify: Path | None,
        socket: int | None = None,
        is_awaited: bool = False,
        given: int | None = None,
        output: int | None = None,
    ) -> child.Child:
        """Starts it, with `socket` as its listening one, `given` and `output` as standard input
        and output. Raises ProcessError, OSError."""
        for directory in self.data.values():
            ensure_data_directory(directory, uid=self.user.uid, gid=self.user.gid)
        environment = {**self.environment, procfs.MARK: self.mark, procfs.DIGEST: self.digest}
        writable = dict(self.data)
        if notify is not None:
            writable[NOTIFY_SOCKET] = notify
            environment["NOTIFY_SOCKET"] = NOTIFY_SOCKET
        if self.listener is not None and socket is not None:
            environment |= self.listener.environment()
        files = self.files()
        sandbox = Sandbox(
            self.command,
            self.user,
            self.hostname,
            etc=etc.furnish(self.etc, host=self.host_files, files=files, directories=self.data),
            read_only={STACK_DIR: self.stack_dir, **interpreter_paths(), **self._place(files)},
            writable=writable,
            hosts=self.hosts,
            system=self.host_files,
            own_network=self.namespace is None,
            listener=socket,
            nice=self.nice,
        )
        procfs.starts(self.mark)
        started = await child.start(
            self.node,
            sandbox,
            group=self.group,
            namespace=self.namespace,
            environment=environment,
            log=self.log,
            is_awaited=is_awaited,
            given=given,
            output=output,
        )
        self.emit(ProcessStarted(self.node, started.pid, started.start_ticks))
        return started

    def _place(self, files: Mapping[str, str]) -> dict[str, Path]:
        """Files and secrets, where the sandbox takes them from."""
        own = self.folder.write(files, uid=self.user.uid, gid=self.user.gid, mode=0o400)
        return {**own, SECRETS_DIR: self.publish()} if self.secrets() else own

    def publish(self) -> Path:
        """Puts the secrets of now where a running program sees them."""
        uid, gid = self.user.uid, self.user.gid
        return self.folder.publish(SECRETS_DIR, self.secrets(), uid=uid, gid=gid)


class Service(Struct, frozen=True):
    """A process that stays. It is found by the mark in its environment, not by a file. Jobs with
    the marks in `before` work on its data until it starts; they may outlive a killed run."""

    program: Program
    stop_signal: signal.Signals
    grace_s: float
    notifications: Notifications | None
    before: tuple[str, ...] = ()
    current: dict[str, child.Child] = field(default_factory=dict)  # what this run started

    @property
    def name(self) -> str:
        return self.program.node

    async def observe(self) -> Observation:
        found = self.program.running()
        seen = self._look(found)
        if seen.state is State.PRESENT and (wrong := self._unlimited(found)):
            return Observation(State.PARTIAL, wrong)
        return seen

    def _look(self, found: Sequence[procfs.Sandbox]) -> Observation:
        """What there is, but for its limits: those can be put right under a running program."""
        inits = [each for each in found if each.is_init]
        if not found:
            return Observation(State.ABSENT)
        if len(inits) != 1:
            return Observation(State.PARTIAL, f"{len(inits)} copies run")
        namespace = self.program.namespace
        if namespace is not None:
            inode = namespace.stat().st_ino if namespace.exists() else 0
            if inits[0].netns != inode:
                return Observation(State.PARTIAL, "it lives in a namespace that has lost its name")
        if len(found) == len(inits) or procfs.is_done(inits[0].pid):
            # The waiter outside ends with the program; workers that it left may live on inside.
            return Observation(State.PARTIAL, "its program has ended")
        if lost := self.program.lost(inits[0].pid):
            return Observation(State.PARTIAL, lost)
        if not self.program.is_same(inits[0].digest):
            return Observation(State.PARTIAL, "its configuration has changed")
        return Observation(State.PRESENT)

    def _unlimited(self, found: Sequence[procfs.Sandbox]) -> str:
        wrong = (self.program.unlimited(each.pid) for each in found if each.is_init)
        return next(filter(None, wrong), "")

    async def ensure(self) -> Outcome:
        found = self.program.running()
        if self._look(found).state is not State.PRESENT:
            return await self._renew(found)
        if not self._unlimited(found):
            return Outcome.UNCHANGED
        for each in found:
            if each.is_init:
                self.program.limit(each.pid)
        return Outcome.CHANGED

    async def rebuild(self) -> Outcome:
        """Stops what runs and starts anew. A listening socket passes from the old process
        to the new one: connections wait in it, nobody is refused."""
        return await self._renew(self.program.running())

    async def _renew(self, found: Sequence[procfs.Sandbox]) -> Outcome:
        socket = self._take_socket(found)
        try:
            await self._stop(found)
            for mark in self.before:
                await child.stop_job(procfs.sandboxes(mark))
            if self.notifications is not None:
                self.notifications.open()
            path = self.notifications.path if self.notifications else None
            self.current[self.name] = await self.program.start(notify=path, socket=socket)
        finally:
            close(socket)
        return Outcome.CHANGED

    @contextlib.contextmanager
    def ahead(self) -> Iterator[None]:
        """What this run started is served before others for the length of the block: its
        session, of which it leaves nothing behind."""
        running = self.current.get(self.name)
        if running is None:
            yield
            return
        set_session_nice(running.waiter.pid, -AHEAD)
        try:
            yield
        finally:
            set_session_nice(running.waiter.pid, self.program.nice)

    def _take_socket(self, found: Sequence[procfs.Sandbox]) -> int | None:
        listener = self.program.listener
        if listener is None:
            return None
        running = program_of(self._at_home(found))
        taken = listener.take_over(running) if running is not None else None
        return taken if taken is not None else listener.open(self.program.namespace)

    def _at_home(self, found: Sequence[procfs.Sandbox]) -> list[procfs.Sandbox]:
        """Its processes that live in the namespace that has the name now."""
        namespace = self.program.namespace
        inode = namespace.stat().st_ino if namespace is not None and namespace.exists() else 0
        return [each for each in found if each.netns == inode]

    async def is_absent(self) -> bool:
        return not self.program.running()

    async def remove(self) -> Outcome:
        found = self.program.running()
        await self._stop(found)
        self.program.forget()
        return Outcome.CHANGED if found else Outcome.UNCHANGED

    async def _stop(self, found: Sequence[procfs.Sandbox]) -> None:
        self.current.pop(self.name, None)
        if self.notifications is not None:
            self.notifications.close()
        await child.stop(found, stop_signal=self.stop_signal, grace_s=self.grace_s)


class Job(Struct, frozen=True):
    """A command that runs to its end once: done when `creates` exists, else while its stamp
    (made by us at success, forgotten by `down`) tells of the same command.

    What is `prepared` for it, it finds as its standard input. One that `is_due` is run whatever
    was done before."""

    program: Program
    creates: Path | None
    stamp: Path
    prepared: Prepared | None = None
    is_due: bool = False

    @property
    def name(self) -> str:
        return self.program.node

    async def observe(self) -> Observation:
        if self.is_due:
            return Observation(State.PARTIAL, "it has secrets to hand on")
        if self.creates is not None:
            return Observation(State.PRESENT if self.creates.exists() else State.ABSENT)
        try:
            done = self.stamp.read_text()
        except OSError:
            return Observation(State.ABSENT)
        digest, _, of_data = done.partition(" ")
        if not self.program.is_same(digest):
            return Observation(State.PARTIAL, "its command has changed")
        if of_data != self._data():
            return Observation(State.PARTIAL, "the data that it was done on is gone")
        return Observation(State.PRESENT)

    async def ensure(self) -> Outcome:
        if (await self.observe()).state is State.PRESENT:
            return Outcome.UNCHANGED
        await child.stop_job(self.program.running())
        try:
            running = await self._start()
            code = await child.exit_code(running)
            procfs.ended(self.program.mark)
        except asyncio.CancelledError:
            await child.stop_job(self.program.running())
            raise
        self.program.emit(ProcessExited(self.name, running.pid, code))
        if code != 0:
            reason = f"it ended with exit code {code}"
            raise ProcessError(self.name, "run", reason, log=running.log_lines())
        if self.creates is None:
            self.stamp.parent.mkdir(parents=True, exist_ok=True)
            self.stamp.write_text(f"{self.program.digest} {self._data()}")
        elif not self.creates.exists():
            reason = f"it ended well, but did not make {self.creates.name}"
            raise ProcessError(self.name, "run", reason, log=running.log_lines())
        return Outcome.CHANGED

    async def _start(self) -> child.Child:
        with contextlib.ExitStack() as until_started:
            given = None
            if self.prepared is not None:
                given = await self._given(self.prepared, until_started)
            return await self.program.start(notify=None, is_awaited=True, given=given)

    async def _given(self, prepared: Prepared, until: contextlib.ExitStack) -> int | None:
        """What is prepared; in a thread only where it must be read."""
        given, refused = prepared.open(until, may_read=False)
        if given is None or refused:
            given, refused = await in_thread_to_its_end(prepared.open, until)
            for reason in refused:
                self.program.emit(Noticed(self.name, reason))
        return given

    def _data(self) -> str:
        return " ".join(identity_of(path) for path in self.program.data.values())

    async def is_absent(self) -> bool:
        return not (self.stamp if self.creates is None else self.creates).exists()

    async def remove(self) -> Outcome:
        """Data that it made stays; that is what it was run for."""
        found = self.program.running()
        await child.stop_job(found)
        self.program.forget()
        was_done = self.stamp.exists()
        self.stamp.unlink(missing_ok=True)
        return Outcome.CHANGED if found or was_done else Outcome.UNCHANGED
