"""A network namespace that stands for the host, so that a lab touches nothing of the real one.

The whole process enters it before any thread starts; from then on "the host" is simply
where this process lives, and no other module knows the difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from orchestrator import linux
from orchestrator.errors import BusyError, HostError, OrchestratorError
from orchestrator.kernel.namespace import Namespace, NamespaceDirectory
from orchestrator.kernel.netlink import Netlink
from orchestrator.lab import Lab

# On in every new namespace of a kernel with br_netfilter (ip-sysctl.rst): each frame from service
# to service would pass iptables and connection tracking of the host, which have nothing to say
# of it. Off in a host that is ours alone; whose host it is otherwise has his reasons.
BRIDGE_FILTER = "net.bridge.bridge-nf-call-iptables"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process at a time makes a name in /run/netns; `ip netns add` locks it likewise."""
    descriptor = os.open(linux.NETNS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def require_here(lab: Lab) -> None:
    """Raises BusyError where this process lives in a host that has lost its name: to a `down`
    that was about to end when we entered. To be asked while holding the lab."""
    if not lab.host:
        return
    path = linux.NETNS_DIR / lab.host
    here = Path("/proc/thread-self/ns/net").stat().st_ino
    if not linux.is_namespace(path) or path.stat().st_ino != here:
        raise BusyError(f"a `down` has just taken the host {lab.host} away\n  mend: try again")


class PrivateHost:
    """`lab.host` in /run/netns: made if it is missing, and then taken away by `leave`."""

    def __init__(self, lab: Lab, directory: NamespaceDirectory) -> None:
        self._directory = directory
        self._namespace = Namespace(
            "netns:host", lab.host, lab.mark, lab.group, {}, Netlink(), {BRIDGE_FILTER: "0"}
        )
        self._outside = linux.own_namespace()

    def enter(self, *, create: bool) -> None:
        """Moves this process in. Raises HostError if it is missing and not to be made."""
        path = self._namespace.path
        if not linux.is_namespace(path):
            if not create:
                mend = "`orchestrator up` with the same option makes it"
                raise HostError(f"there is no network namespace {path.name}", mend=mend)
            asyncio.run(self._directory.ensure())
            with _alone():
                if not linux.is_namespace(path):  # another `up` may have been quicker
                    self._make()
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(descriptor)
        finally:
            os.close(descriptor)

    def _make(self) -> None:
        """In a thread, since unshare takes along the thread that calls it."""
        failures: list[OrchestratorError] = []

        def make() -> None:
            try:
                self._namespace.make()
            except OrchestratorError as error:
                failures.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]

    async def leave(self) -> None:
        """Takes the namespace away if it is ours; one that was there before stays."""
        linux.setns(self._outside)
        await self._namespace.remove()
        await self._directory.remove()
