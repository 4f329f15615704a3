"""Which stack on which lab. Light: who asks the supervisor loads little before that."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import glance
from orchestrator.errors import UsageError
from orchestrator.hints import remember
from orchestrator.lab import CACHE_ROOT, RUN_ROOT, STATE_ROOT, Lab
from orchestrator.places import check_places

if TYPE_CHECKING:  # dear to load, and `status` asks the supervisor instead
    from orchestrator.app import App
    from orchestrator.privatehost import PrivateHost

EMPTY_NAME = "an empty name is no node"  # a script's empty variable must not mean all of them
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Target:
    """A stack file, and the host that its lab lives on."""

    def __init__(
        self, stack: Path | None, host: str, state: Path, run: Path, cache: Path = CACHE_ROOT
    ) -> None:
        self.stack_file = Path(glance.stack_file(str(stack) if stack else None))
        self._host, self._state, self._run, self._cache = host, state, run, cache
        self._private: PrivateHost | None = None
        self._app: App | None = None

    @classmethod
    def of(
        cls,
        *,
        stack: Path | None,
        host_netns: str | None,
        private: bool,
        state_dir: Path,
        run_dir: Path,
        cache_dir: Path,
    ) -> Target:
        """The one that these options mean; from now on the one that hints are for. Raises
        UsageError."""
        if host_netns == "":  # a script's empty variable must not mean the host itself
            raise UsageError("--host-netns needs a name; without the option the host is meant")
        host = host_netns or ("lab" if private else "")
        found = cls(stack, host, state_dir.absolute(), run_dir.absolute(), cache_dir.absolute())
        remember(found.short_words)
        return found

    def open(self, *, max_workers: int = 32) -> App:
        """The app, without entering any namespace. Raises UsageError, SpecError."""
        from orchestrator.app import open_app

        self._check_host()
        if self._app is None or self._app.max_workers != max_workers:
            self._app = open_app(
                self.stack_file,
                host=self._host,
                state_root=self._state,
                run_root=self._run,
                cache_root=self._cache,
                max_workers=max_workers,
            )
            check_places(self._app.lab)
        return self._app

    def _check_host(self) -> None:
        host = self._host
        if host and not HOST_NAME.fullmatch(host):
            raise UsageError(
                f"{host[:70]!r} is no name for a network namespace: letters, digits, . _ - are "
                "allowed, 63 of them, the first a letter or digit"
            )

    def known(self) -> tuple[Lab, str] | None:
        """The lab and the digest of the stack file by a glance at it, which a supervisor can be
        asked with; None if that does not tell. Raises UsageError, OSError."""
        self._check_host()
        if not (found := glance.known(str(self.stack_file))):
            return None
        name, digest = found
        return Lab(name, self._host, self._state, self._run, self._cache), digest

    def enter(self, *, create: bool = False, max_workers: int = 32) -> App:
        """The app, with this process on the lab's host. Raises HostError too."""
        from orchestrator.app import require_root

        app = self.open(max_workers=max_workers)
        require_root()
        if app.lab.host and self._private is None:  # else we are there
            from orchestrator.kernel.namespace import NamespaceDirectory
            from orchestrator.privatehost import PrivateHost

            directory = NamespaceDirectory(app.compiler.memory / "netns-directory")
            self._private = PrivateHost(app.lab, directory)
            self._private.enter(create=create)
            from msgspec.structs import replace

            # Afresh: nodes that were made before this know another namespace as the host.
            app = self._app = replace(app)
        return app

    def words(self) -> list[str]:
        """The options that mean this target, for another process of ours."""
        found = ["--stack", str(self.stack_file.resolve())]
        found += ["--state-dir", str(self._state), "--run-dir", str(self._run)]
        found += ["--cache-dir", str(self._cache)]
        return [*found, "--host-netns", self._host] if self._host else found

    def short_words(self) -> str:
        """The options that a person would have to type for this target."""
        import shlex

        state = [] if self._state == STATE_ROOT else ["--state-dir", str(self._state)]
        run = [] if self._run == RUN_ROOT else ["--run-dir", str(self._run)]
        host = ["--host-netns", self._host] if self._host else []
        own = self.stack_file.resolve() == Path(glance.OWN_STACK)
        stack = [] if own else ["--stack", str(self.stack_file.resolve())]
        cache = [] if self._cache == CACHE_ROOT else ["--cache-dir", str(self._cache)]
        return shlex.join([*host, *state, *run, *cache, *stack])

    def is_absent(self) -> bool:
        """Whether the lab's host is a namespace that does not exist: nothing can be up."""
        return bool(self._host) and not Path("/run/netns", self._host).exists()

    async def leave(self, app: App) -> None:
        """After `down`, or an `up` that changed nothing: a private host of ours goes too."""
        if self._private is not None and not app.lab.run_dir.exists():
            await self._private.leave()
            app.forget_host()


def node_argument(app: App, name: str) -> str:
    """The node that is meant: its full name, or a service's or job's. Raises UsageError."""
    if not name:
        raise UsageError(EMPTY_NAME)
    for candidate in (name, f"service:{name}", f"job:{name}", f"netns:{name}", f"bridge:{name}"):
        if candidate in app.nodes:
            return candidate
    if (short := name.removeprefix("job:")) in app.stack.jobs:
        raise UsageError(
            f"job {short} is no node of the graph: it runs only when secrets are rotated, and "
            f"nothing waits for it; `orchestrator logs {short}` shows what it wrote"
        )
    known = ", ".join(
        name for name in (*app.stack.services, *app.stack.jobs) if _is_node(app, name)
    )
    from orchestrator.near import did_you_mean, full_and_short

    near = did_you_mean(name, full_and_short(app.nodes))
    raise UsageError(
        f"unknown node {name}{near}; known: {known}, and what `orchestrator plan` lists"
    )


def _is_node(app: App, name: str) -> bool:
    return f"service:{name}" in app.nodes or f"job:{name}" in app.nodes


def service_argument(app: App, name: str) -> str:
    """The service that is meant. Raises UsageError."""
    name = name.removeprefix("service:").removeprefix("netns:")
    if not name:
        raise UsageError(EMPTY_NAME)
    if name not in app.stack.services:
        known = ", ".join(app.stack.services)
        from orchestrator.near import did_you_mean

        near = did_you_mean(name, app.stack.services)
        raise UsageError(f"unknown service {name}{near}; known: {known}")
    return name


def is_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def is_coloured() -> bool:
    """Whether that person wants colours: https://no-color.org."""
    return is_terminal() and not os.environ.get("NO_COLOR")
