"""Resource: who may connect to a namespace, enforced in that namespace.

Own chains in INPUT there, with connection tracking where it is needed. Refused connections are
answered (TCP reset, ICMP port unreachable) instead of dropped: all who can reach a namespace are
neighbours on one host, nothing is hidden by silence, and a caller that was forgotten in the stack
file learns of it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from msgspec import Struct

from orchestrator import linux
from orchestrator.errors import ResourceError
from orchestrator.events import Outcome
from orchestrator.kernel import iptables, nftables, ruleremoval
from orchestrator.kernel.encoding import Encoder
from orchestrator.kernel.iptables import Rule, Tables
from orchestrator.kernel.ruleset import RuleSet
from orchestrator.resource import Observation, State

MakeRule = Callable[..., Rule]
# A connection cannot begin without it: RFC 9293, 3.5. As iptables-save prints `! --syn`.
NO_SYN = "-m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8  # ICMP types: RFC 792


class Admission(Struct, frozen=True):
    """One port of one link, and who may connect to it; `others`: all but that source."""

    name: str
    interface: str
    source: IPv4Network
    protocol: str
    port: int
    why: str
    others: bool = False


def policy_rules(
    prefix: str, mark: str, admissions: Sequence[Admission], *, is_tracked: bool = True
) -> list[Rule]:
    """Every rule of one namespace, the hook first.

    Not tracked: nothing but TCP and pings can be asked from here. Then no rule needs connection
    tracking, and without one the kernel does not track: a third of what a policy costs each packet.
    Errors from beyond the network need none either: the host lets in those alone that belong to a
    connection that it knows.
    """
    chain = f"{prefix}-IN"

    def rule(match: str, more: str, target: str, name: str, why: str, at: str = chain) -> Rule:
        return Rule("filter", at, match, more, target, f"{mark} {name}", why)

    found = [
        rule(
            "",
            "",
            chain,
            "hook",
            "First in INPUT: whatever arrives here is judged by what the stack file declares.",
            at="INPUT",
        ),
        *standing(rule, is_tracked=is_tracked),
        rule(
            "-i lo",
            "",
            "ACCEPT",
            "itself",
            "Programs of this namespace reach each other over its loopback.",
        ),
    ]
    found += [admitted(rule, each) for each in admissions]
    return [*found, *closing(rule)]


def standing(rule: MakeRule, *, is_tracked: bool = True) -> Iterator[Rule]:
    """What begins no connection. Nearly every packet ends at the first rule, so that is the one
    that looks at nothing but the packet."""
    yield rule(
        "-p tcp",
        NO_SYN,
        "ACCEPT",
        "going-on",
        "TCP that begins nothing: its connection was let through, or is older than these rules, or "
        "is none and reaches nobody.",
    )
    if is_tracked:
        yield rule(
            "",
            "-m conntrack --ctstate RELATED,ESTABLISHED",
            "ACCEPT",
            "answers",
            "Answers to what was asked from here, and errors that belong to a connection.",
        )
    else:
        yield rule(
            "-p icmp",
            f"-m icmp --icmp-type {ECHO_REPLY}",
            "ACCEPT",
            "answers",
            "Answers to pings. Nothing else that is asked from here and no TCP has answers.",
        )
        yield rule(
            "-p icmp",
            f"-m icmp --icmp-type {UNREACHABLE}",
            "ACCEPT",
            "refusals",
            "What was sent from here and refused, or too large for a link on the way: the kernel "
            "tells the socket that is quoted, or nobody.",
        )
    yield echo(rule)


def echo(rule: MakeRule) -> Rule:
    return rule(
        "-p icmp",
        f"-m icmp --icmp-type {ECHO_REQUEST}",
        "ACCEPT",
        "echo",
        "Ping is open to everybody: it shows that the network works, and reaches no program.",
    )


def admitted(rule: MakeRule, each: Admission) -> Rule:
    """The rule behind one declared flow; its counter counts connections."""
    return rule(
        f"{'! ' if each.others else ''}-s {each.source} -i {each.interface} -p {each.protocol}",
        f"-m {each.protocol} --dport {each.port}",
        "ACCEPT",
        each.name,
        each.why,
    )


def closing(rule: MakeRule, prefix: str = "") -> Iterator[Rule]:
    """What nobody has declared is refused."""
    yield rule(
        "-p tcp",
        "",
        "REJECT --reject-with tcp-reset",
        f"{prefix}refused-tcp",
        "No other connection is declared: refused at once, as if nobody listened.",
    )
    yield rule(
        "",
        "",
        "REJECT --reject-with icmp-port-unreachable",
        f"{prefix}refused",
        "The same for UDP and every other protocol.",
    )


class Policy(RuleSet, frozen=True):
    """The rules of one namespace of ours, replaced together."""

    label: str
    namespace: Path
    encoder: Encoder

    @property
    def name(self) -> str:
        return f"policy:{self.label}"

    async def observe(self) -> Observation:
        if not linux.is_namespace(self.namespace):
            return Observation(State.ABSENT)
        return await self._judged(self._content())

    async def _judged(self, content: nftables.Content | None) -> Observation:
        """What iptables-save says, asked only once for the same content of the kernel."""
        if content is None and iptables.is_nft():
            return Observation(State.ABSENT)
        key = (self.wanted, content.essence) if content else None
        if key is None or key not in _verdicts:
            verdict = self._verdict(await iptables.save(self.namespace))
            if key is None:
                return verdict
            if len(_verdicts) >= REMEMBERED:
                _verdicts.clear()
            _verdicts[key] = verdict
        return _verdicts[key]

    def _verdict(self, live: Tables) -> Observation:
        wrong = self.differences(live)
        if not wrong:
            return Observation(State.PRESENT)
        state = State.PARTIAL if self.traces(live) else State.ABSENT
        return Observation(state, "; ".join(wrong))

    def _content(self) -> nftables.Content | None:
        try:
            return nftables.read(nftables.IPV4, "filter", self.namespace)
        except OSError:
            return None  # changed while it was listed, or the legacy variant's kernel

    def _require_namespace(self) -> None:
        if not linux.is_namespace(self.namespace):
            detail = f"namespace {self.namespace.name} is missing"
            raise ResourceError(self.name, "ensure", detail)

    async def ensure_from_nothing(self) -> Outcome:
        self._require_namespace()
        await self._replace(None)
        return Outcome.CHANGED

    async def ensure(self) -> Outcome:
        self._require_namespace()
        content = self._content()
        if (await self._judged(content)).state is State.PRESENT:
            return Outcome.UNCHANGED
        await self._replace(content)
        return Outcome.CHANGED

    async def rebuild(self) -> Outcome:
        """All rules anew in one step: at no instant is more open, or less."""
        await self._replace(self._content())
        return Outcome.CHANGED

    async def shut(self) -> None:
        """Whoever would connect anew from outside gets no answer, until the rules are made again.
        Raises ResourceError, HostError."""
        rule = f"-I {self.prefix}-IN ! -i lo -p tcp -m tcp --syn -j DROP"
        await iptables.restore(f"*filter\n{rule}\nCOMMIT\n", self.namespace)

    async def _replace(self, content: nftables.Content | None) -> None:
        if iptables.is_nft() and content is None:
            with suppress(OSError):
                await self.encoder.write(self, self.namespace)
                return
        live = await iptables.save(self.namespace)
        await iptables.restore(self.replacement(live), self.namespace)

    async def is_absent(self) -> bool:
        if not linux.is_namespace(self.namespace):
            return True
        with suppress(OSError):
            if iptables.is_nft():
                return not ruleremoval.is_there(self.owner, self.namespace)
        return not self.traces(await iptables.save(self.namespace))

    async def remove(self) -> Outcome:
        if not linux.is_namespace(self.namespace):
            return Outcome.UNCHANGED
        if iptables.is_nft():
            try:
                gone = ruleremoval.take_away(
                    self.owner, whole=self.tables, namespace=self.namespace
                )
            except OSError as error:
                raise ResourceError(self.name, "remove", str(error)) from error
            return Outcome.CHANGED if gone else Outcome.UNCHANGED
        live = await iptables.save(self.namespace)
        if not self.traces(live):
            return Outcome.UNCHANGED
        await iptables.restore(self.removal(live), self.namespace)
        return Outcome.CHANGED


# (rules wanted, content of the kernel) → verdict: the same question has the same answer.
_verdicts: dict[Hashable, Observation] = {}
REMEMBERED = 4096
