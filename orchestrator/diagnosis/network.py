"""Verdicts on the layers below TCP: link, bridge, neighbour, route, settings, rules. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address

from msgspec import Struct

from orchestrator.diagnosis.findings import Finding, Verdict
from orchestrator.kernel.bridge import MTU, Bridge
from orchestrator.kernel.guard import Guard
from orchestrator.kernel.iptables import Tables
from orchestrator.kernel.nat import Nat
from orchestrator.kernel.neighbours import Neighbour
from orchestrator.kernel.netlink import Snapshot
from orchestrator.kernel.policy import Policy
from orchestrator.kernel.veth import DEFAULT, FORWARDING, Veth
from orchestrator.resource import Observation, State

PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")  # linux/if_bridge.h
DENIALS = ("DROP", "REJECT")
OURS = '--comment "orchestrator:'


class Shell(Struct, frozen=True):
    """How commands are typed in any shell: the lab's host may be a namespace itself."""

    host: str

    def ip(self, words: str, namespace: str = "") -> str:
        where = namespace or self.host
        return f"ip -n {where} {words}" if where else f"ip {words}"

    def bridge(self, words: str) -> str:
        return f"bridge -n {self.host} {words}" if self.host else f"bridge {words}"

    def run(self, command: str, namespace: str = "") -> str:
        where = namespace or self.host
        return f"ip netns exec {where} {command}" if where else command


def link(
    veth: Veth,
    host: Snapshot,
    inside: Snapshot | None,
    shell: Shell,
    owners: Mapping[IPv4Address, str] | None = None,
) -> Finding:
    """Both ends there and a pair, up, with carrier and address, and packets as large at both as
    at the bridge. `owners`: of each address of the lab the link that it belongs to."""
    outer = host.links.get(veth.outer)
    inner = inside.links.get(veth.inner) if inside else None
    on_host = shell.ip(f"link show dev {veth.outer}")
    within = shell.ip(f"address show dev {veth.inner}", veth.namespace.name)

    def broken(text: str, command: str) -> Finding:
        return Finding("link", veth.name, Verdict.BROKEN, text, command)

    if inside is None:
        text = f"namespace {veth.namespace.name} cannot be entered"
        return Finding("link", veth.name, Verdict.SKIPPED, text)
    if outer is None and inner is None:
        return broken(f"{veth.outer} and {veth.inner} do not exist", on_host)
    if outer is None or inner is None:
        gone, command = (veth.outer, on_host) if outer is None else (veth.inner, within)
        return broken(f"{gone} does not exist", command)
    if outer.group != veth.group or inner.group != veth.group:
        return broken(f"{veth.outer} belongs to {outer.alias or 'somebody else'}", on_host)
    if outer.peer_index != inner.index:
        return broken(f"{veth.outer} and {veth.inner} are no pair", on_host)
    if not outer.up:
        return broken(f"{veth.outer} is down", on_host)
    if not inner.up:
        return broken(f"{veth.inner} is down", within)
    if not outer.running or not inner.running:
        name = veth.inner if outer.running else veth.outer
        return broken(f"{name} has no carrier", on_host if name == veth.outer else within)
    listed = ", ".join(map(str, inside.of(veth.inner))) or "no address"
    if veth.address not in inside.of(veth.inner):
        return broken(f"{veth.inner} has {listed}, wanted {veth.address}", within)
    for address in (each for found in inside.addresses.values() for each in found):
        owner = (owners or {}).get(address.ip, "")
        if owner and owner.partition(".")[0] != veth.name.partition(".")[0]:
            text = f"foreign address: {address} in {veth.namespace.name} belongs to {owner}"
            at = next(n for n, each in inside.links.items() if address in inside.of(n))
            gone = shell.ip(f"address del {address} dev {at}", veth.namespace.name)
            return Finding("link", veth.name, Verdict.BROKEN, text, within, mend=gone)
    for end, where in ((inner, veth.namespace.name), (outer, "")):
        if end.mtu != MTU:
            text = f"{end.name} has MTU {end.mtu}, wanted {MTU}"
            mend = shell.ip(f"link set dev {end.name} mtu {MTU}", where)
            command = within if where else on_host
            return Finding("link", veth.name, Verdict.BROKEN, text, command, mend=mend)
    text = f"{veth.outer} ↔ {veth.inner}: up, carrier, {listed}"
    return Finding("link", veth.name, Verdict.OK, text, within)


def bridge(wanted: Bridge, host: Snapshot, shell: Shell) -> Finding:
    """There, a bridge of ours, up, with its address."""
    seen = host.links.get(wanted.interface)
    command = shell.ip(f"address show dev {wanted.interface}")

    def verdict(text: str, kind: Verdict = Verdict.BROKEN) -> Finding:
        return Finding("bridge", wanted.name, kind, text, command)

    if seen is None:
        return verdict(f"there is no {wanted.interface}")
    if seen.kind != "bridge" or seen.group != wanted.group:
        owner = seen.alias or "somebody else"
        return verdict(f"{wanted.interface} ({seen.kind or 'device'}) belongs to {owner}")
    if not seen.up:
        return verdict(f"{wanted.interface} is down")
    listed = ", ".join(map(str, host.of(wanted.interface))) or "no address"
    if wanted.address not in host.of(wanted.interface):
        return verdict(f"{wanted.interface} has {listed}, wanted {wanted.address}")
    return verdict(f"{wanted.interface}: up, {listed}", Verdict.OK)


def port(veth: Veth, host: Snapshot, shell: Shell) -> Finding:
    """The pair's end on the host is a port of the right bridge, and it forwards."""
    outer, master = host.links.get(veth.outer), host.links.get(veth.bridge)
    command = shell.bridge(f"link show dev {veth.outer}")

    def verdict(text: str, kind: Verdict = Verdict.BROKEN) -> Finding:
        return Finding("bridge", veth.name, kind, text, command)

    if master is None or not master.up:
        return verdict(f"{veth.bridge} is not there or down", Verdict.SKIPPED)
    if outer is None or not outer.up or not outer.running:
        return verdict(f"{veth.outer} is not up", Verdict.SKIPPED)
    if outer.master != master.index:
        other = next((each.name for each in host.links.values() if each.index == outer.master), "")
        where = f"a port of {other}, not" if other else "no port"
        return verdict(f"{veth.outer} is {where} of {veth.bridge}")
    if outer.port_state != FORWARDING:
        known = 0 <= outer.port_state < len(PORT_STATES)
        state = PORT_STATES[outer.port_state] if known else str(outer.port_state)
        return verdict(f"{veth.outer} is {state}, not forwarding")
    return verdict(f"{veth.outer} is a port of {veth.bridge}, forwarding", Verdict.OK)


class Way(Struct, frozen=True):
    """How one caller comes to an address: its route and neighbour entry, and whether TCP did.

    `node` is what is to blame where this caller alone does not get there. `source` is the
    address that the kernel would send from (empty: `error` says why there is no route).
    """

    caller: str
    namespace: str  # in /run/netns; empty: the host
    node: str
    device: str
    target: IPv4Address
    source: str
    wanted_source: str
    error: str
    neighbour: Neighbour | None
    answered: bool


def neighbour(veth: Veth, mac: str, ways: Sequence[Way], shell: Shell) -> Finding:
    """The address resolves to the inner end's MAC, asked from every caller."""
    bad = [way for way in ways if not way.answered and _unresolved(way, mac)]
    if not bad:
        names = ", ".join(way.caller for way in ways if way.answered) or "nobody asked"
        command = _neigh(ways[0], shell) if ways else ""
        text = f"{veth.address.ip} is {mac}, asked by {names}"
        return Finding("neighbour", veth.name, Verdict.OK, text, command)
    way = bad[0]
    entry = way.neighbour
    text = f"{way.caller} asks for {way.target} and nobody answers"
    if entry is not None and not entry.failed:
        text = f"{way.caller} holds {entry.mac} for {way.target}, which is {mac}"
    # One caller alone: its own side is to blame.
    node = veth.name if len(bad) == len(ways) else way.node
    mend = ""
    if entry is not None and not entry.failed:
        device = way.device or "DEV"
        mend = shell.ip(f"neigh del {way.target} dev {device}", way.namespace)
    return Finding("neighbour", node, Verdict.BROKEN, text, _neigh(way, shell), mend=mend)


def _neigh(way: Way, shell: Shell) -> str:
    return shell.ip(f"neigh show {way.target}", way.namespace)


def _unresolved(way: Way, mac: str) -> bool:
    entry = way.neighbour
    return entry is not None and entry.state != "NOARP" and (entry.failed or entry.mac != mac)


def default_route(veth: Veth, inside: Snapshot | None, shell: Shell) -> Finding | None:
    """The default route by the bridge; None for a link that is not to have one."""
    if veth.gateway is None or inside is None or veth.inner not in inside.links:
        return None
    index = inside.links[veth.inner].index
    found = [each for each in inside.routes if each.destination == DEFAULT]
    command = shell.ip("route show default", veth.namespace.name)
    if any(each.gateway == veth.gateway and each.oif == index for each in found):
        text = f"default via {veth.gateway} dev {veth.inner}"
        return Finding("route", veth.name, Verdict.OK, text, command)
    listed = ", ".join(f"via {each.gateway}" for each in found) or "there is none"
    text = f"default route: {listed}, wanted via {veth.gateway}"
    return Finding("route", veth.name, Verdict.BROKEN, text, command)


def routes(target: str, ways: Sequence[Way], shell: Shell) -> Iterator[Finding]:
    """Every caller has a route to the target, and sends from its own address on that network."""
    good = []
    for way in ways:
        command = shell.ip(f"route get {way.target}", way.namespace)
        listing = shell.ip(f"route show table all match {way.target}", way.namespace)
        mend = f"take the route away that is not the link's own: {listing}"
        if way.error:
            text = f"{way.caller} has no route to {way.target}: {way.error}"
            yield Finding("route", way.node, Verdict.BROKEN, text, command, mend=mend)
        elif way.source != way.wanted_source:
            text = f"{way.caller} would send to {way.target} from {way.source}"
            text += f", wanted {way.wanted_source}"
            yield Finding("route", way.node, Verdict.BROKEN, text, command, mend=mend)
        else:
            good.append((way, command))
    if good:
        text = f"{good[0][0].target} is on the link for {', '.join(way.caller for way, _ in good)}"
        yield Finding("route", target, Verdict.OK, text, good[0][1])


def settings(
    wanted: Mapping[str, tuple[str, str]], found: Mapping[str, str | None], shell: Shell
) -> Iterator[Finding]:
    """`wanted`: sysctl → (value, the node that sets it)."""
    for key, (value, node) in wanted.items():
        now = found.get(key)
        verdict = Verdict.OK if now == value else Verdict.BROKEN
        text = f"{key} is {now}" + ("" if now == value else f", wanted {value}")
        yield Finding("sysctl", node, verdict, text, shell.run(f"sysctl {key}"))


def rules(nat: Nat, live: Tables, shell: Shell) -> Finding:
    """Every rule of ours in its place, ours first in FORWARD."""
    wrong = nat.differences(live)
    policy = live.policies.get(("filter", "FORWARD"), "ACCEPT")
    if wrong:
        first = min(wrong, key=_weight)
        table, chain = _place(first, nat)
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        text = f"{in_words(first)}{more}"
        if policy != "ACCEPT":
            text += f"; policy of FORWARD: {policy}"
        command = shell.run(f"iptables -t {table} -vnL {chain}")
        return Finding("rules", nat.name, Verdict.BROKEN, text, command)
    packets = sum(rule.packets for rule in live.rules if nat.is_ours(rule.table, rule.line))
    text = f"{len(nat.wanted)} rules in place ({packets} packets), first in FORWARD"
    command = shell.run(f"iptables -t nat -vnL {nat.prefix}-PRE")
    text += f" (policy {policy})"
    return Finding("rules", nat.name, Verdict.OK, text, command)


def guard(guard: Guard, observed: Observation, shell: Shell) -> Finding:
    """Each port lets in its own addresses alone."""
    command = shell.run("nft list table bridge " + guard.table)
    if observed.state is State.PRESENT:
        text = observed.detail or f"{len(guard.ports)} ports let in their own addresses alone"
        return Finding("bridge", guard.name, Verdict.OK, text)
    return Finding("bridge", guard.name, Verdict.DRIFT, observed.detail or "is not there", command)


def policy(policy: Policy, observed: Observation, shell: Shell) -> Finding:
    """The rules in a namespace are those that the stack file's flows ask for."""
    namespace = policy.namespace.name
    command = shell.run(f"iptables -vnL {policy.chains('filter')[0]}", namespace)
    if observed.state is State.PRESENT:
        text = f"{len(policy.wanted)} rules in place in {namespace}"
        return Finding("rules", policy.name, Verdict.OK, text, command)
    wrong = observed.detail.partition("; ")[0] or "the rules are not there"
    return Finding("rules", policy.name, Verdict.DRIFT, in_words(wrong), command)


def in_words(line: str) -> str:
    """`nat: - -A …` and `nat: + -A …` of Nat.differences in words."""
    table, _, rest = line.partition(": ")
    if rest.startswith("- "):
        return f"missing in {table}: {rest[2:]}"
    if rest.startswith("+ "):
        return f"unwanted in {table}: {rest[2:]}"
    return line


def _weight(line: str) -> int:
    """What most connections need first: the redirection, then what leads to it."""
    return 0 if "-j DNAT" in line else 1 if " PREROUTING " in line else 2


def _place(line: str, nat: Nat) -> tuple[str, str]:
    """Table and chain that a difference is about."""
    table, _, rest = line.partition(": ")
    words = rest.split()
    chain = words[words.index("-A") + 1] if "-A" in words else f"{nat.prefix}-FWD"
    return table, chain


class Counted(Struct, frozen=True):
    """The rules of one namespace before and after a connection was tried in vain."""

    node: str  # what is named if one of them is to blame
    namespace: str  # in /run/netns; empty: the host
    before: Tables
    after: Tables


def denials(counted: Counted, shell: Shell) -> Iterator[Finding]:
    """Rules that dropped or refused something meanwhile: the counter is the evidence."""
    then = {(rule.table, rule.line): rule.packets for rule in counted.before.rules}
    for rule in counted.after.rules:
        target = rule.line.split(" -j ")[-1].split()[0]
        came = rule.packets - then.get((rule.table, rule.line), 0)
        if target in DENIALS and came > 0:
            text = f"{rule.table}: {rule.line} took {came} packets while we tried to connect"
            chain = rule.line.split()[1]
            command = shell.run(f"iptables -t {rule.table} -vnL {chain}", counted.namespace)
            if OURS in rule.line and counted.namespace:
                # The policy itself: a rule of it that lets callers in is missing.
                node = counted.node.replace("netns:", "policy:")
                yield Finding("rules", node, Verdict.BROKEN, text, command)
                continue
            gone = f"iptables -t {rule.table} -D {rule.line[3:]}"
            mend = f"whose rule is that? {shell.run(gone, counted.namespace)}"
            yield Finding("rules", counted.node, Verdict.BROKEN, text, command, mend=mend)
