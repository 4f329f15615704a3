"""Ports of this host that are taken, and who has them."""

from __future__ import annotations

import os
import socket

import pytest

from orchestrator.preflight import listeners


@pytest.mark.parametrize(
    ("family", "address", "only"),
    [
        (socket.AF_INET, "127.0.0.1", False),
        (socket.AF_INET, "0.0.0.0", False),
        (socket.AF_INET6, "::1", True),
        (socket.AF_INET6, "::", True),
        (socket.AF_INET6, "::", False),
    ],
)
@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_whoever_listens_is_told(
    family: socket.AddressFamily, address: str, only: bool, option: int
) -> None:
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        assert listeners([port]).keys() == {port}
        assert f"(pid {os.getpid()})" in listeners([port])[port]
    assert listeners([port]) == {}


def test_a_connection_s_own_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
        with socket.create_connection(place) as client, server.accept()[0]:
            port = client.getsockname()[1]
            assert listeners([port]) == {}
