"""Which edge of the platform a socket belongs to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from orchestrator.kernel.sockdiag import Socket, State
from orchestrator.view.plan import Edge, Hop, Plan
from orchestrator.view.sample import Sample

# Who calls a published port and is none of the stack's services: outside, the host, localhost.
INGRESS = "ingress"

# What people ask about; the kernel tells eleven states apart (RFC 9293, section 3.3.2).
STATES = ("connecting", "established", "close_wait", "closing", "time_wait")
STATE_NAMES: dict[int, str] = {
    State.SYN_SENT: "connecting",
    State.SYN_RECV: "connecting",
    State.NEW_SYN_RECV: "connecting",
    State.ESTABLISHED: "established",
    State.CLOSE_WAIT: "close_wait",
    State.FIN_WAIT1: "closing",
    State.FIN_WAIT2: "closing",
    State.CLOSING: "closing",
    State.LAST_ACK: "closing",
    State.TIME_WAIT: "time_wait",
}


class End(NamedTuple):
    """A socket that is one end of an edge's connection."""

    edge: Edge
    state: str
    space: str
    inode: int  # of the namespace
    counts: bool  # one end of each connection does: the client's, where that is ours
    socket: Socket


class Queue(Struct, frozen=True):
    """Of a listening socket: connections that wait to be accepted, and how many may."""

    waiting: int = 0
    limit: int = 0

    @property
    def order(self) -> tuple[float, int]:
        """The fullest first; of empty ones the longest."""
        return (self.waiting / self.limit if self.limit else 0.0, self.limit)


class Sorter:
    """Says of the sockets of one sample whose they are."""

    def __init__(self, plan: Plan, sample: Sample) -> None:
        self._plan, self._sample = plan, sample
        self._at = {space: plan.at(space) for space in plan.paths}
        self._published = {(hop.name, port) for hop in plan.hops for port in hop.published}
        # Declared ports are known even while nobody listens there.
        self._listening = {(hop.space, port): hop.name for hop in plan.hops for port in hop.ports}
        for space, each in self._sockets():
            if each.state == State.LISTEN:
                self._listening.setdefault((space, each.local_port), self._owner(space, each))
        self._clients = {
            (each.local, each.local_port): self._owner(space, each)
            for space, each in self._sockets()
            if len(self._at[space]) > 1 and (space, each.local_port) not in self._listening
        }

    def _sockets(self) -> Iterator[tuple[str, Socket]]:
        for space, seen in self._sample.spaces.items():
            for each in seen.sockets:
                yield space, each

    def _owner(self, space: str, each: Socket) -> str:
        """In a namespace of several services their user ids tell them apart."""
        return _owner(self._at[space], each.uid)

    def queues(self) -> dict[str, Queue]:
        """Of each hop the fullest accept queue."""
        found: dict[str, Queue] = {}
        for space, each in self._sockets():
            if each.state == State.LISTEN:
                hop = self._listening[space, each.local_port]
                queues = (found.get(hop, Queue()), Queue(each.queued, each.limit))
                found[hop] = max(queues, key=lambda queue: queue.order)
        return found

    def ends(self) -> Iterator[End]:
        """Sockets of connections between services, and from outside to published ports."""
        for space, each in self._sockets():
            state = STATE_NAMES.get(each.state)
            if state is None:
                continue
            server = self._listening.get((space, each.local_port))
            edge = self._accepted(space, each, server) if server else self._made(space, each)
            if edge is not None and edge.client != edge.server:
                counts = server is None or edge.client == INGRESS
                inode = self._sample.spaces[space].inode
                yield End(edge, state, space, inode, counts, each)

    def _accepted(self, space: str, each: Socket, server: str) -> Edge | None:
        there = self._space_of(each.remote, space)
        if there is not None:
            client = self._clients.get((each.remote, each.remote_port))
            return Edge(client or self._at[there][0].name, server)
        if (server, each.local_port) in self._published:
            return Edge(INGRESS, server)
        return None  # the host asks whether the service is well

    def _made(self, space: str, each: Socket) -> Edge | None:
        there = self._space_of(each.remote, space)
        if there is None:
            return None  # out of the lab
        server = self._listening.get((there, each.remote_port)) or self._at[there][0].name
        return Edge(self._owner(space, each), server)

    def _space_of(self, address: bytes, here: str) -> str | None:
        return here if address[:1] == b"\x7f" else self._plan.addresses.get(address)


def _owner(hops: Sequence[Hop], uid: int) -> str:
    return next((hop.name for hop in hops if hop.uid == uid), hops[0].name)
