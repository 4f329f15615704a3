"""Composition root: from a stack file to runs on a lab."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets as random
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from msgspec import Struct, field

from orchestrator import former, frozen, known, linux
from orchestrator.ahead import begun
from orchestrator.attendance import Attendance
from orchestrator.engine.bus import Bus, Sight
from orchestrator.engine.executor import Executor, Result, recorded_needs
from orchestrator.engine.plan import Node
from orchestrator.errors import (
    BusyError,
    HostError,
    OrchestratorError,
    UsageError,
)
from orchestrator.events import (
    Action,
    DriftFound,
    Event,
    Outcome,
    RunFinished,
    RunStarted,
)
from orchestrator.health import Health, hurried
from orchestrator.kernel.netlink import Netlink
from orchestrator.known import MAX_BYTES, Known
from orchestrator.lab import CACHE_ROOT, STATE_ROOT, Lab
from orchestrator.lasted import Lasted
from orchestrator.linux import in_thread
from orchestrator.lock import PATIENCE_S, lock
from orchestrator.onelook import one_look
from orchestrator.places import make_directory, missing, remove_empty
from orchestrator.preflight import check_host
from orchestrator.presence import leave_out
from orchestrator.privatehost import require_here
from orchestrator.processes import cgroup, child, liveness, procfs
from orchestrator.processes.gate import ServiceGate
from orchestrator.processes.prepared import PREPARES
from orchestrator.processes.secrets import Secrets
from orchestrator.processes.service import Job, Service
from orchestrator.programs import is_installed, search_path
from orchestrator.regular import read_text
from orchestrator.remembered import Remembered
from orchestrator.replay import radius, subgraph
from orchestrator.resource import Observation, State
from orchestrator.rotation import finish, holding, learning_anew, with_secrets
from orchestrator.sights import journal
from orchestrator.spec import Stack, When
from orchestrator.stack import Compiler
from orchestrator.templates import digest_of


def drifts(broken: Mapping[str, Observation], hung: Mapping[str, str]) -> list[DriftFound]:
    """What differs from what is wanted, and how."""
    found = [DriftFound(name, seen.detail or seen.state) for name, seen in broken.items()]
    return [*found, *(DriftFound(name, f"hung: {why}") for name, why in hung.items())]


# A check owns nothing; a link on the host is a convenience that its owner may remove.
NEVER_BROKEN = frozenset({"check", "link"})

HOSTS_DIR = ".hosts"  # below the run root: what is remembered of each host across labs


class App(Struct, frozen=True, dict=True):
    """One stack on one lab; everything that a command needs.

    `stack` is what this host can run of the `whole`.
    """

    stack: Stack
    directory: Path
    text: str
    lab: Lab
    max_workers: int
    whole: Stack
    left_out: Mapping[str, When] = field(default_factory=dict)
    known: Known | None = None  # from reading this text before

    @cached_property
    def compiler(self) -> Compiler:
        return Compiler(
            stack=self.stack,
            lab=self.lab,
            directory=self.directory,
            memory=self.lab.run_root / HOSTS_DIR,
            emit=self.emit,
            netlink=Netlink(),
            secrets=Secrets(self.lab.state_dir / "secrets", self.lab.run_dir / "secrets"),
            whole=self.whole,
            compiled=self.known.compiled if self.known else {},
            remembered=self.remembered,
        )

    @cached_property
    def remembered(self) -> Remembered:
        return Remembered(self.lab.state_dir / "rendered.json", known.key_of(self.text))

    def is_sound(self) -> bool:
        """Whether templates are known to be rendered without a fault, just as they are, with
        what this host has now. Raises SpecError for one that cannot be read."""
        sound = self.known and self.known.sound
        return bool(
            sound
            and sound.left_out == tuple(self.left_out)
            and sound.texts == {digest_of(text) for text in self.compiler.templates.texts()}
            and all(Path(path).exists() == there for path, there in sound.files.items())
        )

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Every node of the stack. Raises SpecError."""
        return self.compiler.nodes()

    @property
    def layers(self) -> dict[str, str]:
        """Of each node."""
        return {name: node.layer for name, node in self.nodes.items()}

    @property
    def digest(self) -> str:
        """Of the stack file's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def fingerprint(self) -> str:
        """Of everything that a supervisor must know alike: the stack and what it renders to."""
        parts = [self.text]
        for node in self.nodes.values():
            if isinstance(node.resource, Service | Job):
                with contextlib.suppress(OrchestratorError):  # no secrets yet: nothing is up
                    parts.append(node.resource.program.digest)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @cached_property
    def _current(self) -> dict[str, Bus]:
        return {}

    def emit(self, event: Event) -> None:
        """To the run under way; outside of one there is nobody to tell."""
        if bus := self._current.get("bus"):
            bus.emit(event)

    async def check(self) -> list[str]:
        """What is worth a word before `up`. Raises HostError with whatever stands in its way."""
        require_root()
        require_here(self.lab)
        with one_look():
            return await check_host(self.stack, self.lab, self.compiler, self.nodes)

    async def up(
        self,
        sights: list[Sight],
        *,
        complain: Callable[[str], None],
        supervisor: Attendance | None = None,
    ) -> Result:
        """Brings everything about that is missing. Raises HostError, BusyError, SpecError."""
        require_root()
        nodes = self.nodes

        async def work() -> Result:
            begun = with_secrets(self, complain)
            orphans = self._orphans()
            if await former.is_any_there(orphans):
                result = await self.run("prune", orphans, Action.REMOVE, sights, complain)
                if result.outcome is Outcome.FAILED:
                    return result
            former.record(self.lab, self.text)
            lost = begun.lost if begun else ()
            wanted = {**nodes, **await learning_anew(self, lost, sights, complain=complain)}
            anew = holding(self, lost)
            result = await self.run("up", wanted, Action.ENSURE, sights, complain, rebuild=anew)
            if begun is None or result.outcome is Outcome.FAILED:
                return result
            ended = await finish(self, begun, sights, complain=complain)
            told = ended.outcome is Outcome.FAILED or result.outcome is Outcome.UNCHANGED
            return ended if told else result

        async with lock(self.lab, "up", patience_s=PATIENCE_S) as held:
            for note in await self.check():
                complain(note)
            make_directory(self.lab.state_dir)
            return await (supervisor or Attendance()).around(held, work)

    def _orphans(self) -> dict[str, Node]:
        same = self.text if not self.left_out else None
        return former.orphans(self.compiler, self.nodes, unless=same)

    async def broken(self, names: Collection[str]) -> dict[str, Observation]:
        """Of these nodes those that are not as wanted."""
        asked = [name for name in names if name.partition(":")[0] not in NEVER_BROKEN]
        with one_look():
            seen = {name: await self.nodes[name].resource.observe() for name in asked}
        return {name: each for name, each in seen.items() if each.state is not State.PRESENT}

    async def silent(self, names: Collection[str]) -> frozenset[str]:
        """Of these nodes the services that do not answer the host now, for whatever reason."""
        gates = {name: self.nodes[name].gate for name in names}
        asked = {
            name: gate.questions() for name, gate in gates.items() if isinstance(gate, ServiceGate)
        }
        return frozenset(await in_thread(liveness.silent, asked))

    async def hung(self) -> dict[str, str]:
        """Services that run but do not answer, for no reason that lies in their needs."""
        return await Health.of(self.nodes).settled(self.nodes, lambda: self.broken(self.nodes))

    async def heal(
        self,
        names: Collection[str],
        hung: Mapping[str, str],
        *,
        complain: Callable[[str], None],
        sights: Sequence[Sight] = (),
    ) -> Result:
        """Brings these nodes back, and what cannot live without them; `hung` ones, each with
        its reason, are made anew. Raises BusyError."""
        near = radius(self.nodes, frozenset(names), cascade=False)
        async with lock(self.lab, "heal"):
            self.compiler.secrets.bring_back()
            drift = drifts(await self.broken(names), hung)
            acted = subgraph(self.nodes, near.touched)
            acted |= {name: hurried(acted[name], why) for name, why in hung.items()}
            return await self.run(
                "heal", acted, Action.ENSURE, sights, complain, rebuild=hung, first=drift
            )

    async def note(self, events: Iterable[Event]) -> None:
        """What is told and left as it is: into the journal. Nothing while a run is on."""
        with contextlib.suppress(BusyError):
            async with lock(self.lab, "alert"):
                self._write(events)

    async def freeze(self, names: Collection[str], hung: Mapping[str, str]) -> None:
        """As `note`, of what still differs of these nodes; and from now on no command changes
        the lab."""
        with contextlib.suppress(BusyError):
            async with lock(self.lab, "alert"):
                if drift := drifts(await self.broken(names), hung):
                    self._write(drift)
                    frozen.freeze(self.lab, drift)

    def _write(self, events: Iterable[Event]) -> None:
        book = journal.Journal(self.lab.journal)
        bus = Bus(_run_id(), first_seq=journal.next_seq(self.lab.journal), broken=lambda _: None)
        bus.add(book.append)
        for event in events:
            bus.emit(event)
        book.close()

    async def down(
        self,
        sights: list[Sight],
        *,
        volumes: bool,
        complain: Callable[[str], None],
        supervisor: Attendance | None = None,
    ) -> Result:
        """Takes everything of this lab away. Data stays unless `volumes`."""
        require_root()
        new = missing(self.lab.state_dir)

        async def work() -> Result:
            nodes = {**self.nodes, **self._orphans()}
            result = await self.run("down", nodes, Action.REMOVE, sights, complain)
            if result.outcome is not Outcome.FAILED:
                # That nothing was up is no history worth a directory.
                is_bare = bool(new) and result.outcome is Outcome.UNCHANGED
                self.forget(volumes=volumes or is_bare)
                remove_empty(new)
            return result

        async with lock(self.lab, "down", patience_s=PATIENCE_S) as held:
            return await (supervisor or Attendance()).around(held, work)

    def forget(self, *, volumes: bool) -> None:
        """Files that have no meaning without the lab; with `volumes` its data too; and what
        prepares for the next one."""
        # A `prepare` that was killed leaves what it ran, which may be all that is left of a lab.
        child.kill(procfs.sandboxes_below(f"{self.lab.mark}/{PREPARES}"))
        shutil.rmtree(self.lab.prepare_dir, ignore_errors=True)
        if volumes:
            shutil.rmtree(self.lab.state_dir, ignore_errors=True)
        shutil.rmtree(self.lab.run_dir, ignore_errors=True)
        cgroup.forget(self.lab.name)
        self.forget_host()
        if volumes and self.lab.state_root == STATE_ROOT:  # another belongs to who named it
            with contextlib.suppress(OSError):
                self.lab.state_root.rmdir()

    def forget_host(self) -> None:
        """What is remembered of this host, as far as no lab needs it any more."""
        memory = self.compiler.host_memory
        for directory in (memory / "sysctl", memory, memory.parent, self.lab.run_root):
            with contextlib.suppress(OSError):
                directory.rmdir()

    async def observe(self) -> dict[str, Observation]:
        """What is there now, node by node."""
        require_root()
        with one_look():
            return {name: await node.resource.observe() for name, node in self.nodes.items()}

    async def run(
        self,
        command: str,
        nodes: Mapping[str, Node],
        action: Action,
        sights: Sequence[Sight],
        complain: Callable[[str], None],
        rebuild: Collection[str] = (),
        first: Sequence[Event] = (),
    ) -> Result:
        """One run over these nodes, told to the journal and the sights; the caller holds the
        lab."""
        bus = Bus(_run_id(), first_seq=journal.next_seq(self.lab.journal), broken=complain)
        book = journal.Journal(self.lab.journal, complain)
        bus.add(book.append)
        for sight in sights:
            bus.add(sight)
        self._current["bus"] = bus
        lasted = Lasted(self.lab.lasted)
        bus.add(lasted)
        needs, boot = recorded_needs(nodes, action), procfs.boot_id()
        weights = lasted.weights(nodes, needs) if action is Action.ENSURE else {}
        executor = Executor(nodes, emit=bus.emit, max_workers=self.max_workers, weights=weights)
        bus.emit(
            RunStarted(command, self.digest, tuple(nodes), boot, needs, self.max_workers, weights)
        )
        for event in first:
            bus.emit(event)
        try:
            wanted = nodes.values() if action is Action.ENSURE else ()
            foreseen = begun(node.resource for node in wanted)
            with linux.ahead(), procfs.held(self.lab.mark), foreseen:
                result = await executor.run(action, rebuild=rebuild)
            bus.emit(RunFinished(result.outcome, result.failed, tuple(result.skipped)))
        except asyncio.CancelledError:
            bus.emit(RunFinished(Outcome.CANCELLED, (), ()))
            raise
        finally:
            self._current.clear()
            book.close()
        lasted.keep()
        self.remembered.keep()
        return result


def _run_id() -> str:
    """Sorts by time, and two at once differ."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + random.token_hex(2)


def require_root() -> None:
    """Raises HostError."""
    if os.geteuid() != 0:
        raise HostError("this needs root", mend="run it with sudo")


def load_stack(path: Path, cache_root: Path | None = None) -> tuple[Known, str]:
    """The stack in the file, with what is known of it there, and its text. Raises UsageError,
    SpecError."""
    try:
        text = read_text(path, limit=MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the stack file {path}: {reason}") from error
    return known.read(text, str(path), cache_root), text


def open_app(
    path: Path,
    *,
    host: str,
    state_root: Path,
    run_root: Path,
    cache_root: Path = CACHE_ROOT,
    max_workers: int = 32,
) -> App:
    """The app of a stack file on a host. Raises UsageError, SpecError."""
    found, text = load_stack(path, cache_root)
    whole = found.stack
    stack, left_out = leave_out(whole, partial(is_installed, path=search_path(whole)))
    lab = Lab(whole.name, host, state_root, run_root, cache_root)
    return App(stack, path.resolve().parent, text, lab, max_workers, whole, left_out, found)
