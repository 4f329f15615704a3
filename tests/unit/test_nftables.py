"""Expressions of rules, and their counters, whichever way a kernel lays them out."""

from __future__ import annotations

import struct

import pytest

from orchestrator.kernel.messages import attribute
from orchestrator.kernel.nftables import decode, expression

BYTES, PACKETS, PAD = 1, 2, 3  # NFTA_COUNTER_ of linux/netfilter/nf_tables.h
IMMEDIATE = expression("immediate", attribute(1, b"verdict"))
SHOWN = ("immediate", ((1, b"verdict"),))


def counter(packets: int, size: int, *, is_padded: bool = False) -> bytes:
    """As the kernel sends one; padded where a machine wants its numbers aligned."""
    pad = attribute(PAD, b"") if is_padded else b""
    return expression(
        "counter",
        pad + attribute(BYTES, struct.pack("!Q", size)),
        pad + attribute(PACKETS, struct.pack("!Q", packets)),
    )


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("numbers", [(0, 0), (7, 420), (2**40, 2**50)])
def test_counter_is_apart_from_what_a_rule_does(
    numbers: tuple[int, int], *, is_padded: bool
) -> None:
    encoded = counter(*numbers, is_padded=is_padded) + IMMEDIATE
    assert decode(encoded) == ((("counter", ()), SHOWN), numbers)


def test_rule_without_a_counter_has_counted_nothing() -> None:
    assert decode(IMMEDIATE) == ((SHOWN,), (0, 0))


def test_bytes_that_look_like_a_counter_stay_what_they_are() -> None:
    looks_so = attribute(1, counter(3, 180))
    expected = ("match", ((1, counter(3, 180)),))
    assert decode(expression("match", looks_so)) == ((expected,), (0, 0))
    both = expression("match", looks_so) + counter(5, 300)
    assert decode(both) == ((expected, ("counter", ())), (5, 300))
