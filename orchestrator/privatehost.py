"""A network namespace that stands for the host, so that a lab touches nothing of the real one.

The whole process enters it before any thread starts; from then on "the host" is simply
where this process lives, and no other module knows the difference.
"""

from __future__ import annotations

import asyncio
import os
import threading

from orchestrator import linux
from orchestrator.errors import HostError, OrchestratorError
from orchestrator.kernel.namespace import Namespace, NamespaceDirectory
from orchestrator.kernel.netlink import Netlink
from orchestrator.lab import Lab


class PrivateHost:
    """`lab.host` in /run/netns: made if it is missing, and then taken away by `leave`."""

    def __init__(self, lab: Lab, directory: NamespaceDirectory) -> None:
        self._directory = directory
        self._namespace = Namespace("netns:host", lab.host, lab.mark, lab.group, {}, Netlink())
        self._outside = linux.own_namespace()

    def enter(self, *, create: bool) -> None:
        """Moves this process in. Raises HostError if it is missing and not to be made."""
        path = self._namespace.path
        if not linux.is_namespace(path):
            if not create:
                mend = "`orchestrator up` with the same option makes it"
                raise HostError(f"there is no network namespace {path.name}", mend=mend)
            asyncio.run(self._directory.ensure())
            failures: list[OrchestratorError] = []

            def make() -> None:
                try:
                    self._namespace.make()
                except OrchestratorError as error:
                    failures.append(error)

            # In a thread, since unshare takes along the thread that calls it.
            thread = threading.Thread(target=make)
            thread.start()
            thread.join()
            if failures:
                raise failures[0]
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(descriptor)
        finally:
            os.close(descriptor)

    async def leave(self) -> None:
        """Takes the namespace away if it is ours; one that was there before stays."""
        linux.setns(self._outside)
        await self._namespace.remove()
        await self._directory.remove()
