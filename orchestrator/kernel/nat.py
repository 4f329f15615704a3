"""Resource: the lab's rules for NAT, published ports, forwarding and the localhost guard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import ResourceError
from orchestrator.events import Outcome
from orchestrator.kernel import iptables, nftables, ruleremoval
from orchestrator.kernel.encoding import Encoder
from orchestrator.kernel.hostpolicy import Net, Outbound, host_rules, way_out
from orchestrator.kernel.iptables import Rule, Tables
from orchestrator.kernel.policy import Admission
from orchestrator.kernel.ruleset import RuleSet
from orchestrator.linux import appear
from orchestrator.resource import Observation, State


class Publication(Struct, frozen=True):
    """host port → service."""

    host_port: int
    bridge: str
    address: IPv4Address
    port: int


def rules(
    prefix: str,
    mark: str,
    nets: Sequence[Net],
    publications: Sequence[Publication],
    *,
    outbound: Sequence[Outbound] = (),
    to_host: Sequence[Admission] = (),
) -> list[Rule]:
    """Every rule of ours, hooks first; the order within a chain is the order of matching.

    `outbound` are services that may not reach everything outside, `to_host` what services may
    reach on the host itself.
    """

    def rule(
        table: str, chain: str, match: str, target: str, comment: str, why: str, more: str = ""
    ) -> Rule:
        return Rule(table, chain, match, more, target, f"{mark} {comment}", why)

    pre, post, forward, raw = (f"{prefix}-{end}" for end in ("PRE", "POST", "FWD", "RAW"))
    found = list(_hooks(rule, pre, post, forward, raw))
    # Answers come before everything that could drop them.
    found += [answer for net in nets for answer in _answers(rule, forward, net)]
    for each in publications:
        found += _published(rule, pre, post, forward, each, nets)
    for net in nets:
        found += _forwarded(rule, forward, net, nets, outbound)
        found += _guarded(rule, post, raw, net)
    return [*found, *host_rules(prefix, mark, nets, to_host)]


def _hooks(
    rule: Callable[..., Rule], pre: str, post: str, forward: str, raw: str
) -> Iterator[Rule]:
    """Where the kernel's own chains lead into ours."""
    local = "-m addrtype --dst-type LOCAL"
    yield rule(
        "raw",
        "PREROUTING",
        "",
        raw,
        "hook",
        "Sends every arriving packet through our guard, before connection tracking.",
    )
    yield rule(
        "nat",
        "PREROUTING",
        "",
        pre,
        "hook-clients",
        "Connections that arrive for one of this host's addresses see our published ports: "
        "clients outside, and services that call the host (hairpin).",
        local,
    )
    yield rule(
        "nat",
        "OUTPUT",
        "",
        pre,
        "hook-host",
        "Connections made on this host to its own addresses, localhost included, see our "
        "published ports too: they never pass PREROUTING.",
        local,
    )
    yield rule(
        "nat",
        "POSTROUTING",
        "",
        post,
        "hook",
        "Sends every new connection that leaves through our address rewriting.",
    )
    yield rule(
        "filter",
        "FORWARD",
        "",
        forward,
        "hook",
        "First in FORWARD, so that a policy or later rule of DROP (Docker, ufw) does not "
        "cut our networks off.",
    )


def _guarded(rule: Callable[..., Rule], post: str, raw: str, net: Net) -> Iterator[Rule]:
    """What the loopback's addresses may do on a bridge, and how its services get outside."""
    yield rule(
        "raw",
        raw,
        f"-d 127.0.0.0/8 -i {net.bridge}",
        "DROP",
        "guard",
        "route_localnet is on for this bridge; nobody behind it may use that to reach "
        "the host's loopback services (CVE-2020-8558).",
    )
    yield rule(
        "nat",
        post,
        f"-s 127.0.0.0/8 -o {net.bridge}",
        _behind(net),
        "localhost",
        "A connection from localhost to a published port leaves with the bridge's "
        "address: nobody could answer 127.0.0.1.",
    )
    if net.masquerade:
        yield rule(
            "nat",
            post,
            f"-s {net.subnet} ! -o {net.bridge}",
            "MASQUERADE",
            "outbound",
            "Services reach the outside behind the host's own address.",
        )


def _published(
    rule: Callable[..., Rule],
    pre: str,
    post: str,
    forward: str,
    each: Publication,
    nets: Iterable[Net],
) -> Iterator[Rule]:
    target = f"{each.address}:{each.port}"
    yield rule(
        "nat",
        pre,
        "-p tcp",
        f"DNAT --to-destination {target}",
        f"publish-{each.host_port}",
        f"Port {each.host_port} of this host is answered by {target}.",
        f"-m tcp --dport {each.host_port}",
    )
    behind = f"-d {each.address}/32 -o {each.bridge} -p tcp"
    to_port = f"-m tcp --dport {each.port} -m conntrack --ctstate DNAT"
    yield rule(
        "filter",
        forward,
        behind,
        "ACCEPT",
        f"publish-{each.host_port}",
        f"Lets connections through that came to port {each.host_port} and were redirected.",
        to_port,
    )
    for net in nets:
        if net.bridge == each.bridge:
            yield rule(
                "nat",
                post,
                f"-s {net.subnet} -d {each.address}/32 -o {each.bridge} -p tcp",
                _behind(net),
                f"hairpin-{each.host_port}",
                "A service that calls the published port is its target's neighbour; without the "
                "host's address in between the answer would go to it directly and be refused.",
                to_port,
            )


def _behind(net: Net) -> str:
    """Not MASQUERADE: that forgets its connections when the bridge goes down, this keeps them
    until a new one is there."""
    return f"SNAT --to-source {net.address}"


def _answers(rule: Callable[..., Rule], forward: str, net: Net) -> Iterator[Rule]:
    for direction, what in (("-o", "to"), ("-i", "from")):
        yield rule(
            "filter",
            forward,
            f"{direction} {net.bridge}",
            "ACCEPT",
            f"answers-{what}",
            f"Packets {what} the network that belong to connections which were let through.",
            "-m conntrack --ctstate RELATED,ESTABLISHED",
        )


def _forwarded(
    rule: Callable[..., Rule],
    forward: str,
    net: Net,
    nets: Iterable[Net],
    outbound: Iterable[Outbound],
) -> Iterator[Rule]:
    yield rule(
        "filter",
        forward,
        f"-i {net.bridge} -o {net.bridge}",
        "ACCEPT",
        "neighbours",
        "Service to service on one bridge; passes FORWARD only where br_netfilter is loaded.",
    )
    for other in nets:
        if other.bridge != net.bridge:
            yield rule(
                "filter",
                forward,
                f"-i {net.bridge} -o {other.bridge}",
                "DROP",
                "isolation",
                "Networks of one stack do not reach each other; a service may join both.",
            )
    if net.masquerade:
        for each in outbound:
            if each.bridge == net.bridge:
                yield from way_out(rule, forward, each)
        yield rule(
            "filter",
            forward,
            f"-i {net.bridge} ! -o {net.bridge}",
            "ACCEPT",
            "outbound",
            "Services may open connections to the outside.",
        )


class Nat(RuleSet, frozen=True):
    """All rules of one lab on its host, replaced together.

    `memory` remembers which tables did not exist before us (nft variant), to take those
    away again.
    """

    memory: Path
    encoder: Encoder

    @property
    def name(self) -> str:
        return "nat:rules"

    async def observe(self) -> Observation:
        if self._chains() is None:
            live = await iptables.save()
            wrong = self.differences(live)
            if not wrong:
                return Observation(State.PRESENT)
            if self.traces(live):
                return Observation(State.PARTIAL, "; ".join(wrong))
        if self.memory.exists():
            return Observation(State.PARTIAL, "empty tables that we made are still there")
        return Observation(State.ABSENT)

    def _chains(self) -> set[tuple[str, str]] | None:
        """(table, chain) of everybody, where none of ours is there; None: ask iptables. Asking
        the kernel costs no process."""
        if not iptables.is_nft():
            return None
        try:
            there = nftables.chains(nftables.IPV4)
        except OSError:
            return None
        ours = {(table, name) for table in self.tables for name in self.chains(table)}
        return there if there.isdisjoint(ours) else None

    async def ensure(self) -> Outcome:
        if (there := self._chains()) is not None:
            self._remember(nftables.tables(nftables.IPV4))
            with suppress(OSError):
                await self.encoder.write(self, live=there)
                return Outcome.CHANGED
        live = await iptables.save()
        if not self.differences(live):
            return Outcome.UNCHANGED
        await self._replace(live)
        return Outcome.CHANGED

    async def rebuild(self) -> Outcome:
        """All rules anew in one step: at no instant is a published port without an answer."""
        await self._replace(await iptables.save())
        return Outcome.CHANGED

    async def _replace(self, live: Tables) -> None:
        self._remember(live.chains)
        await iptables.restore(self.replacement(live))

    def _remember(self, there: Collection[str]) -> None:
        """Which tables were not there before us."""
        if not self.memory.exists():
            missing = [table for table in self.tables if table not in there]
            appear(self.memory, "\n".join(missing))

    async def is_absent(self) -> bool:
        if self.memory.exists():
            return False
        with suppress(OSError):
            if iptables.is_nft():
                return not ruleremoval.is_there(self.owner)
        return not self.traces(await iptables.save())

    async def remove(self) -> Outcome:
        made = self.memory.read_text().split() if self.memory.exists() else []
        if iptables.is_nft():
            try:
                changed = ruleremoval.take_away(self.owner, whole=made)
            except OSError as error:
                raise ResourceError(self.name, "remove", str(error)) from error
        else:
            live = await iptables.save()
            changed = self.traces(live)
            if changed:
                await iptables.restore(self.removal(live))
        self.memory.unlink(missing_ok=True)
        return Outcome.CHANGED if changed else Outcome.UNCHANGED
