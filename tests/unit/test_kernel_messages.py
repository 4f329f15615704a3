"""Raw netlink messages, as a kernel (6.18) sent them; expected values are those of ss and ip."""

from __future__ import annotations

import errno
import json
import os
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from orchestrator.kernel import linkstats, rulecounters, sockdiag
from orchestrator.kernel.messages import (
    HEADER,
    NLM_F_DUMP_INTR,
    NLMSG_ERROR,
    attribute,
    attributes,
    find_attribute,
    messages,
    request,
)
from orchestrator.kernel.sockdiag import State

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "kernel_messages.json").read_text()
)


def recorded_socket(name: str) -> sockdiag.Socket:
    return sockdiag.decode(bytes.fromhex(RECORDED["sockets"][name]))


def test_established_socket_has_the_numbers_that_ss_showed() -> None:
    """ss -tin: Recv-Q 10, retrans:0/3, rtt:101.053, minrtt:0.016."""
    found = recorded_socket("established")
    assert found.state == State.ESTABLISHED
    assert (IPv4Address(found.local), found.local_port) == (IPv4Address("10.0.0.40"), 57740)
    assert (IPv4Address(found.remote), found.remote_port) == (IPv4Address("10.0.0.50"), 7070)
    assert (found.retransmits, found.rtt_us, found.min_rtt_us) == (3, 101_053, 16)
    assert (found.queued, found.unacked, found.notsent_bytes) == (10, 0, 0)


def test_ipv4_behind_an_ipv6_socket_is_ipv4() -> None:
    """ss: [::ffff:10.0.0.50]:7070, [::ffff:10.0.0.40]:57740, minrtt:0.027."""
    found = recorded_socket("mapped")
    assert (IPv4Address(found.local), found.local_port) == (IPv4Address("10.0.0.50"), 7070)
    assert (IPv4Address(found.remote), found.remote_port) == (IPv4Address("10.0.0.40"), 57740)
    assert found.min_rtt_us == 27


def test_listening_socket_has_a_backlog_and_no_times() -> None:
    found = recorded_socket("listen")
    assert (found.state, found.local_port, found.queued, found.limit) == (
        State.LISTEN,
        6379,
        0,
        511,
    )
    assert (found.rtt_us, found.min_rtt_us) == (None, None)


def test_socket_in_time_wait_has_no_times() -> None:
    found = recorded_socket("time_wait")
    assert found.state == State.TIME_WAIT
    assert (found.local_port, found.remote_port) == (57740, 7070)
    assert (found.min_rtt_us, found.retransmits) == (None, 0)


def test_socket_of_a_kernel_without_min_rtt_is_read_without_times() -> None:
    whole = bytes.fromhex(RECORDED["sockets"]["established"])
    start = find_attribute(whole, sockdiag.ANSWER.size, sockdiag.INET_DIAG_INFO)
    older = whole[: sockdiag.ANSWER.size] + attribute(
        sockdiag.INET_DIAG_INFO, whole[start : start + 104]
    )
    found = sockdiag.decode(older)
    assert (found.local_port, found.min_rtt_us) == (57740, None)


def test_link_has_the_counters_that_ip_showed() -> None:
    """ip -s link: RX 9064907 bytes, 65336 packets; TX 9496198 bytes, 67844 packets."""
    found = linkstats.decode(bytes.fromhex(RECORDED["link"]))
    assert found == linkstats.LinkCounters(2, 65336, 67844, 9064907, 9496198, 0, 0, 0, 0)


def test_rule_has_its_comment_and_counters() -> None:
    [(_, body)] = list(messages(bytes.fromhex(RECORDED["rule"])))
    found = rulecounters.decode(dict(attributes(body, len(rulecounters.NFGENMSG))))
    assert found is not None
    assert (found.table, found.comment) == ("nat", "orchestrator:shop@hk1 hook-clients")
    assert (found.identity, found.packets, found.bytes) == (8, 0, 0)


def test_errors_in_messages_are_raised() -> None:
    refused = request(NLMSG_ERROR, 0, (-errno.ENODEV).to_bytes(4, "little", signed=True))
    with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
        list(messages(refused))
    with pytest.raises(OSError, match="changed what it was listing"):
        list(messages(request(20, NLM_F_DUMP_INTR, b"")))


@pytest.mark.parametrize("cut", [HEADER.size + 1, -1])
def test_message_that_is_cut_short_is_an_error(cut: int) -> None:
    whole = request(20, 0, bytes(40))
    with pytest.raises(OSError, match="cut short"):
        list(messages(whole[:cut]))


@pytest.mark.parametrize("name", ["established", "mapped", "listen", "time_wait"])
def test_damaged_attributes_end_the_search(name: str) -> None:
    """Whatever is cut off: no endless loop, no error but struct's for the fixed part."""
    whole = bytes.fromhex(RECORDED["sockets"][name])
    for length in range(sockdiag.ANSWER.size, len(whole)):
        sockdiag.decode(whole[:length])
        list(attributes(whole[:length], sockdiag.ANSWER.size))
    assert find_attribute(b"\0\0\0\0" * 4, 0, 7) == 0
