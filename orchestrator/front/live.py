"""The supervisor's face: the page on loopback, `/metrics` there and on the bridges."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface

from orchestrator.errors import HostError
from orchestrator.front import metrics
from orchestrator.front.page import Page, Sources
from orchestrator.front.ports import LOOPBACK, listen_on_all
from orchestrator.front.serve import serving


@dataclass
class Sockets:
    """What could be listened on, and what came in the way. A taken port ends nothing."""

    page: list[socket.socket] = field(default_factory=list)
    bridges: list[socket.socket] = field(default_factory=list)
    problems: list[HostError] = field(default_factory=list)

    @classmethod
    def open(cls, bridges: Collection[IPv4Interface], port: int) -> Sockets:
        """With port 0 there are none."""
        found = cls()
        if port:
            found.page, problems = listen_on_all([IPv4Address(LOOPBACK)], port)
            found.bridges, more = listen_on_all([bridge.ip for bridge in bridges], port)
            found.problems = [*problems, *more]
        return found


@contextlib.asynccontextmanager
async def live(
    sockets: Sockets, sources: Sources, bridges: Collection[IPv4Interface]
) -> AsyncIterator[None]:
    """Serves for the length of the block, and closes the sockets at its end."""
    async with contextlib.AsyncExitStack() as stack:
        if sockets.page:
            await stack.enter_async_context(serving(Page(sources).application(), sockets.page))
        if sockets.bridges:
            app = metrics.application(sources.metrics, bridges)
            await stack.enter_async_context(serving(app, sockets.bridges))
        yield
