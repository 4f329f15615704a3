"""The handshake of the synthetic request, from what the kernel tells of a connection."""

from __future__ import annotations

import struct

import pytest

from orchestrator.path.prober import TCP_INFO, handshake_us


@pytest.mark.parametrize(
    ("rtt_us", "sent_again", "told_us"),
    [(40, 0, 40), (40, 1, 1_001_000), (0, 0, 1_001_000)],
    ids=["a sample", "a lost SYN", "no sample"],
)
def test_a_lost_packet_shows(rtt_us: int, sent_again: int, told_us: int) -> None:
    info = bytearray(TCP_INFO.size)
    struct.pack_into("=I", info, 68, rtt_us)  # linux/tcp.h: tcpi_rtt
    struct.pack_into("=I", info, 100, sent_again)  # tcpi_total_retrans
    assert handshake_us(bytes(info), connect_us=1_001_000) == told_us
