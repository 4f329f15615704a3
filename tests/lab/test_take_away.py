"""Tables that others change while we look are not taken away with what they have put there."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from rig import run

from orchestrator import linux
from orchestrator.kernel import iptables, nftables
from orchestrator.kernel.ruleremoval import Owner, is_there, take_away

T = TypeVar("T")

OURS = "*filter\n:ORC-TEST - [0:0]\n-A ORC-TEST -j RETURN\n-A FORWARD -j ORC-TEST\nCOMMIT\n"


class Meddled(Mapping[str, frozenset[str]]):
    """Our chains by table; somebody adds a rule once the first table was looked at."""

    def __init__(self) -> None:
        self.is_done = False

    def __getitem__(self, table: str) -> frozenset[str]:
        return {"filter": frozenset({"ORC-TEST"})}[table]

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        yield "filter"
        if not self.is_done:
            self.is_done = True
            run("iptables", "-A", "INPUT", "-p", "tcp", "-j", "ACCEPT").ok()


def away(function: Callable[[], T]) -> T:
    """What the function gives in a namespace of its own."""

    def there() -> T:
        linux.unshare_net()
        return function()

    with ThreadPoolExecutor(1) as alone:
        return alone.submit(there).result()


def test_rule_that_others_add_meanwhile_stays() -> None:
    def taken() -> tuple[bool, str]:
        iptables.restore_here(OURS)
        found = take_away(Owner(Meddled(), "orchestrator:test"), whole={"filter"})
        return found, run("iptables-save", "-t", "filter").ok().out

    found, left = away(taken)
    assert found
    assert "-A INPUT -p tcp -j ACCEPT" in left
    assert "ORC-TEST" not in left


def test_chain_of_another_name_goes_unless_others_use_it() -> None:
    comment = '-m comment --comment "orchestrator:test x"'
    rules = "".join(
        f":{name} - [0:0]\n-A {name} {comment} -j RETURN\n-A FORWARD {comment} -j {name}\n"
        for name in ("ALONE", "USED", "LED-INTO")
    )
    others = ":EMPTY - [0:0]\n-A USED -j RETURN\n-A INPUT -j LED-INTO\n"

    def left() -> str:
        iptables.restore_here(f"*filter\n{rules}{others}COMMIT\n")
        owner = Owner({"filter": ["ORC-TEST"]}, "orchestrator:test")
        assert is_there(owner)
        assert take_away(owner, whole={"filter"})
        assert not is_there(owner)
        return run("iptables-save", "-t", "filter").ok().out

    found = away(left)
    assert "orchestrator:test" not in found
    assert "ALONE" not in found
    for line in (":EMPTY -", ":USED -", ":LED-INTO -", "-A USED -j RETURN", "-A INPUT -j LED-INTO"):
        assert line in found


def test_nothing_is_changed_once_anything_else_was() -> None:
    def refused() -> list[str]:
        iptables.restore_here(OURS)
        since = nftables.generation()
        iptables.restore_here("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")
        body = nftables.named(nftables.TABLE_NAME, "filter")
        kind, flags = nftables.DELETE_TABLE, nftables.NLM_F_ACK
        gone = nftables.message(kind, flags, nftables.IPV4, body)
        with pytest.raises(OSError) as refusal:  # noqa: PT011 - its number is looked at
            nftables.commit([gone], since=since)
        assert refusal.value.errno == errno.ERESTART
        found = nftables.tables(nftables.IPV4)
        nftables.commit([gone], since=nftables.generation())
        return [*found, *nftables.tables(nftables.IPV4)]

    assert away(refused) == ["filter"]
