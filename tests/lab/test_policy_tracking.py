"""What connection tracking knows in the services' namespaces, and what is heard without it."""

from __future__ import annotations

import sys

from rig import OUTSIDE_ADDRESS, World

PLACES = (
    *("nginx-lb", "api-gateway", "product-service", "order-service"),
    *("redis-cache", "postgres-db", "prometheus"),
)


def test_kernel_tracks_connections_only_where_something_can_be_asked(watched: World) -> None:
    watched.curl("http://127.0.0.1:8080/api/products").ok()
    watched.inside("redis-cache", "ping", "-c", "1", OUTSIDE_ADDRESS).ok()
    count = "/proc/sys/net/netfilter/nf_conntrack_count"
    tracked = {name: int(watched.inside(name, "cat", count).ok().out) > 0 for name in PLACES}
    assert tracked == {name: name not in ("redis-cache", "postgres-db") for name in PLACES}


def test_refusal_of_a_datagram_is_heard_where_nothing_is_tracked(watched: World) -> None:
    """By whoever refuses it: a neighbour, or the host on the way out."""
    code = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5);"
        "s.connect((sys.argv[1], 9)); s.send(b'?'); s.recv(1)"
    )
    for target in ("10.0.0.20", OUTSIDE_ADDRESS):
        asked = watched.inside("redis-cache", sys.executable, "-c", code, target)
        assert "ConnectionRefusedError" in asked.err, f"{target}: {asked.err}"
