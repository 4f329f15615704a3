"""Links, addresses and routes of one namespace at a time: batches out, snapshots in.

Requests for one namespace go as one batch over one socket, which was opened inside that
namespace: a round trip per request is what makes building networks slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from msgspec import Struct

from orchestrator.kernel import channel
from orchestrator.kernel.channel import open_channel, refusal
from orchestrator.kernel.linkremoval import LinkRemoval
from orchestrator.kernel.rtnetlink import (
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    Link,
    Request,
    Route,
    decode_address,
    decode_link,
    decode_route,
    get_link,
    links_of_kind,
)
from orchestrator.linux import in_thread
from orchestrator.onelook import is_looking, once


class Snapshot(Struct, frozen=True):
    """What one namespace holds now."""

    links: dict[str, Link]
    addresses: dict[int, list[IPv4Interface]]
    routes: list[Route]

    def of(self, name: str) -> list[IPv4Interface]:
        """The addresses of a link."""
        link = self.links.get(name)
        return self.addresses.get(link.index, []) if link else []

    def reaches(self, network: IPv4Network, index: int) -> bool:
        """Whether there is a route to that network on that link itself."""
        wanted = Route(network, None, index)
        return wanted in self.routes


class Like(Struct, frozen=True):
    """What tells a link of ours from all others whatever its name is."""

    name: str
    kind: str
    mac: str
    group: int

    def is_other_than(self, link: Link) -> bool:
        """Whether the link is that one by all but its name."""
        is_it = (link.kind, link.mac, link.group) == (self.kind, self.mac, self.group)
        return is_it and link.name != self.name


class Netlink:
    """Batches and snapshots. `namespace` None is the lab's host, where this process lives.

    What adds or looks takes a fraction of a millisecond and blocks; a thread would cost more.
    """

    def __init__(self) -> None:
        self._removal = LinkRemoval()

    async def apply(
        self, resource: str, action: str, requests: Sequence[Request], namespace: Path | None = None
    ) -> None:
        """Sends the batch; taking links away is done in a thread, since it waits for RCU.

        Raises the error of the first request that failed: TransientError where another
        attempt may help, else ResourceError. Requests after a failed one are carried out
        all the same (rtnetlink knows no transactions).
        """
        if any(request.kind == RTM_DELLINK for request in requests):
            await in_thread(self.apply_here, resource, action, requests, namespace)
        else:
            self.apply_here(resource, action, requests, namespace)

    def apply_here(
        self, resource: str, action: str, requests: Sequence[Request], namespace: Path | None = None
    ) -> None:
        """The same from the calling thread."""
        if not requests:
            return
        with open_channel(resource, action, namespace) as there:
            there.send(channel.batch(requests))
            answers = channel.acknowledgements(there, len(requests))
        _raise_for(resource, action, requests, answers)

    async def change(self, resource: str, requests: Sequence[Request], name: str) -> Link | None:
        """Sends the batch to the host and returns what the link of that name is after it; None
        if there is none. Raises as `apply` does."""
        with open_channel(resource, "ensure", None) as there:
            there.send(channel.batch([*requests, get_link(name)]))
            answers = channel.acknowledgements(there, len(requests))
            found = channel.links(there, 1)
        _raise_for(resource, "ensure", requests, answers)
        return found[0] if found else None

    async def remove(self, resource: str, link: Link) -> None:
        """Takes a link of the host away, together with those that others ask for in the same
        turn of the loop. Raises TransientError, ResourceError."""
        await self._removal.ask(resource, link)

    def links(self, *names: str, namespace: Path | None = None) -> dict[str, Link]:
        """Those of these links that exist. Asks for no others: a host may have a thousand.

        Raises ResourceError.
        """
        if is_looking():  # then one dump serves all who look
            found = self.snapshot(namespace).links
            return {name: found[name] for name in names if name in found}
        where = namespace.name if namespace else "host"
        with open_channel(where, "observe", namespace) as there:
            there.send(channel.batch([get_link(name) for name in names]))
            return {link.name: link for link in channel.links(there, len(names))}

    def renamed(self, like: Like, namespace: Path | None = None) -> list[Link]:
        """Links of the group and kind with that MAC, but another name: somebody has renamed
        them, and no look by name finds them. Raises ResourceError."""
        return [link for link in self.of_kind(like.kind, namespace) if like.is_other_than(link)]

    def of_kind(self, kind: str, namespace: Path | None = None) -> list[Link]:
        """All links of that kind. Raises ResourceError."""
        found = self._all_links(namespace, links_of_kind(kind))
        return [link for link in found if link.kind == kind]  # an old kernel gives all

    def named_or_renamed(self, like: Like, namespace: Path) -> tuple[Link | None, list[Link]]:
        """The link of that name, whosever it is, and what `renamed` gives, in one look at a
        namespace that has few. Raises ResourceError."""
        found = self._all_links(namespace)
        named = next((link for link in found if link.name == like.name), None)
        return named, [link for link in found if like.is_other_than(link)]

    def _all_links(self, namespace: Path | None, body: bytes = b"") -> list[Link]:
        if is_looking():
            return list(self.snapshot(namespace).links.values())
        where = namespace.name if namespace else "host"
        with open_channel(where, "observe", namespace) as there:
            bodies = channel.dump(there, RTM_GETLINK, where, body)
        return [decode_link(body) for body in bodies]

    def snapshot(self, namespace: Path | None = None) -> Snapshot:
        """Links, IPv4 addresses and main-table routes. Raises ResourceError."""
        return once(("snapshot", namespace), lambda: self._snapshot(namespace))

    def _snapshot(self, namespace: Path | None) -> Snapshot:
        where = namespace.name if namespace else "host"
        with open_channel(where, "observe", namespace) as there:
            links = [decode_link(body) for body in channel.dump(there, RTM_GETLINK, where)]
            addresses: dict[int, list[IPv4Interface]] = {}
            for body in channel.dump(there, RTM_GETADDR, where):
                if found := decode_address(body):
                    addresses.setdefault(found[0], []).append(found[1])
            routes = [decode_route(body) for body in channel.dump(there, RTM_GETROUTE, where)]
        return Snapshot(
            {link.name: link for link in links}, addresses, [each for each in routes if each]
        )


def _raise_for(
    resource: str, action: str, requests: Sequence[Request], answers: Sequence[int]
) -> None:
    for request, code in zip(requests, answers, strict=True):
        if code:
            raise refusal(resource, action, request.what, code)
