"""A set of rules of ours in one network namespace: what is missing of it, and how it is put in.

All of it are own chains, led into by hooks in the built-in ones. Pure: live tables in, text for
iptables-restore out.
"""

from __future__ import annotations

import difflib
from itertools import takewhile

from msgspec import Struct

from orchestrator.kernel.iptables import Rule, Tables
from orchestrator.kernel.ruleremoval import Owner
from orchestrator.lab import CHAINS, MARKS

FIRST_IN = ("INPUT", "FORWARD")  # of filter: a rule before ours there could undo what is ours


class RuleSet(Struct, frozen=True):
    """Every rule of ours, in the order of matching within a chain; chains begin with `prefix`."""

    prefix: str
    wanted: tuple[Rule, ...]

    @property
    def mark(self) -> str:
        """What comments of ours begin with."""
        return self.wanted[0].comment.partition(" ")[0]

    @property
    def owner(self) -> Owner:
        """What ours is told by, whatever became of its chains' names."""
        return Owner({table: self.chains(table) for table in self.tables}, self.mark)

    def is_ours(self, table: str, line: str) -> bool:
        """Whether a live rule stands in a chain of ours, leads into one or has our comment."""
        chains = self.chains(table)
        return chain_of(line) in chains or target_of(line) in chains or self._is_marked(line)

    def _is_marked(self, line: str) -> bool:
        return f'--comment "{self.mark} ' in line

    def _renamed(self, table: str, live: Tables) -> list[str]:
        """Chains of other names that only rules with our comment are in and lead into."""
        own = self.chains(table)
        marked, others = set[str](), set[str]()
        for line in live.lines(table):
            found = marked if self._is_marked(line) else others
            found.update((chain_of(line), target_of(line)))
        there = sorted(live.chains.get(table, ()))
        ours = marked - others
        return [n for n in there if n in ours and n not in own and (table, n) not in live.policies]

    def chains(self, table: str) -> list[str]:
        """Chains of ours in the table: with rules in them, or led into by a hook."""
        rules = [rule for rule in self.wanted if rule.table == table]
        names = [name for rule in rules for name in (rule.chain, rule.target)]
        return [name for name in dict.fromkeys(names) if name.startswith(f"{self.prefix}-")]

    def hooks(self, table: str) -> list[Rule]:
        """Rules of ours in built-in chains, which lead into chains of ours."""
        chains = self.chains(table)
        return [r for r in self.wanted if r.table == table and r.chain not in chains]

    @property
    def tables(self) -> list[str]:
        return list(dict.fromkeys(rule.table for rule in self.wanted))

    def differences(self, live: Tables) -> list[str]:
        """`- wanted` and `+ found` lines, per table; empty if all is as it should be."""
        wrong: list[str] = []
        for table in self.tables:
            wanted = [rule.line() for rule in self.wanted if rule.table == table]
            found = [line for line in live.lines(table) if self.is_ours(table, line)]
            # Built-in chains come in the kernel's order, ours in the order we made them.
            diff = difflib.ndiff(sorted(wanted, key=chain_of), sorted(found, key=chain_of))
            wrong += [f"{table}: {line}" for line in diff if line[0] in "+-"]
        if not wrong:
            wrong += self._late_hooks(live)
        return wrong

    def _late_hooks(self, live: Tables) -> list[str]:
        """Where ours must be the first rules: those that come before them."""
        hooked = {rule.chain for rule in self.hooks("filter")}
        return [
            f"filter: our rule in {chain} comes after: {first}"
            for chain in FIRST_IN
            if chain in hooked
            for first in self.before_ours(chain, live)[:1]
        ]

    def before_ours(self, chain: str, live: Tables) -> list[str]:
        """Rules of others in that chain of filter that packets meet before the first of ours; not
        those of other labs, which judge nothing but their own networks."""
        lines = [line for line in live.lines("filter") if chain_of(line) == chain]
        before = takewhile(lambda line: not self.is_ours("filter", line), lines)
        return [line for line in before if not _is_another_labs(line)]

    def traces(self, live: Tables) -> bool:
        """Whether a chain or a rule of ours is there, however incomplete."""
        return any(
            any(name in live.chains.get(table, ()) for name in self.chains(table))
            or any(map(self._is_marked, live.lines(table)))
            for table in self.tables
        )

    def replacement(self, live: Tables) -> str:
        """Puts all of ours in, in place of what is there of it."""
        text = []
        for table in self.tables:
            text.append(f"*{table}")
            # Naming a chain makes it, or empties it: iptables-restore(8) with --noflush.
            text += [f":{name} - [0:0]" for name in self.chains(table)]
            text += [f"-D {line[3:]}" for line in self._live_hooks(table, live)]
            text += [f"-X {name}" for name in self._renamed(table, live)]
            for hook in reversed(self.hooks(table)):
                text.append(hook.line().replace(f"-A {hook.chain}", f"-I {hook.chain} 1", 1))
            chains = self.chains(table)
            text += [r.line() for r in self.wanted if r.table == table and r.chain in chains]
            text.append("COMMIT")
        return "\n".join(text) + "\n"

    def removal(self, live: Tables) -> str:
        """Takes away whatever is there of ours."""
        text = []
        for table in self.tables:
            there = [n for n in self.chains(table) if n in live.chains.get(table, ())]
            outside = self._live_hooks(table, live)
            if not there and not outside:
                continue
            text.append(f"*{table}")
            text += [f"-D {line[3:]}" for line in outside]
            text += [f"-X {name}" for name in self._renamed(table, live)]
            text += [f"-F {name}" for name in there]
            text += [f"-X {name}" for name in there]
            text.append("COMMIT")
        return "\n".join(text) + "\n"

    def _live_hooks(self, table: str, live: Tables) -> list[str]:
        """Rules of ours outside of our chains: they lead into them, or into renamed ones, or
        are in these."""
        chains = self.chains(table)
        return [
            line
            for line in live.lines(table)
            if self.is_ours(table, line) and chain_of(line) not in chains
        ]


def chain_of(line: str) -> str:
    """The chain in a line of iptables-save."""
    return line.split()[1]


def _is_another_labs(line: str) -> bool:
    """Whether a live rule leads into a chain of another lab, by both that a lab's hooks have."""
    return target_of(line).startswith(CHAINS) and f'--comment "{MARKS}' in line


def target_of(line: str) -> str:
    """What a line of iptables-save leads to; empty if nothing."""
    return line.split(" -j ")[-1].split()[0] if " -j " in line else ""
