"""What the hops say of their times, against the packets on the bridge."""

from __future__ import annotations

import contextlib
import re
import socket
import statistics
import time
from collections.abc import Iterator

from asked import Asked, Asker
from capture import Capture, Packet
from firstinline import first_in_line
from rig import World

from orchestrator.linux import NETNS_DIR, inside
from orchestrator.path.spans import Call, Stay

BATCH, BATCHES = 40, 15
WITHIN, WITHIN_US = 0.1, 50.0
SLACK_US = 5.0  # stamps are whole microseconds, and two clocks are compared
ADDRESSES = {
    "nginx-lb": "10.0.0.10",
    "api-gateway": "10.0.0.20",
    "product-service": "10.0.0.30",
    "order-service": "10.0.0.40",
    "redis-cache": "10.0.0.50",
    "postgres-db": "10.0.0.60",
}
PORTS = ["gateway", "product", "order", "redis", "pg"]
PARENT = re.compile(rb"\r\ntraceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\r\n", re.I)


def on_the_wire(caller: str, call: Call, packets: list[Packet]) -> tuple[float, float]:
    """When the first of the call and the last of its answer passed the bridge."""
    pair = ADDRESSES[caller], ADDRESSES[call.callee]
    begin, end = call.sent_us - SLACK_US, call.received_us + SLACK_US
    seen = [packet for packet in packets if begin <= packet.at_us <= end]
    there = [each.at_us for each in seen if (each.source[0], each.target[0]) == pair]
    back = [each.at_us for each in seen if (each.target[0], each.source[0]) == pair]
    assert there, f"no packet to {call.callee} between its call and its answer"
    assert back, f"no packet from {call.callee} between its call and its answer"
    # A stamping hop's answer counts from its first packet on, a store's to its last.
    return there[0], back[0] if call.stay else back[-1]


def calls_of(stay: Stay) -> Iterator[tuple[str, Call]]:
    """Every call of it and below, with who made it."""
    for call in stay.calls:
        yield stay.hop, call
        if call.stay is not None:
            yield from calls_of(call.stay)


def compared(
    asked: list[Asked], packets: list[Packet], waking_us: float
) -> dict[str, tuple[float, float]]:
    """For each hop below the edge the means of its time in µs, of the quarter that was disturbed
    least: as it was reported, and from the packet that asked to the packet that answered. The
    bridge is in the middle of each way, so half of both ways is reported on the hop's side; of a
    store, which does not stamp, the caller reports both ways and its own waking."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for each in asked:
        root = each.request.root
        seen = [p for p in packets if root.arrived_us <= p.at_us <= root.left_us]
        for caller, call in calls_of(root):
            begin_us, end_us = on_the_wire(caller, call, seen)
            reported_us = float(call.received_us - call.sent_us)
            if call.stay is not None:  # the packet passes on the way, not before or after it
                assert begin_us <= call.stay.arrived_us + SLACK_US
                assert end_us >= call.stay.left_us - SLACK_US
                stay_us = call.stay.left_us - call.stay.arrived_us
                reported_us = stay_us + (reported_us - stay_us) / 2
            else:
                reported_us -= waking_us
            rows.setdefault(call.callee, []).append((reported_us, end_us - begin_us))
    peaceful = {hop: sorted(each)[: len(each) // 4] for hop, each in rows.items()}
    return {
        hop: (statistics.fmean(r for r, _ in each), statistics.fmean(c for _, c in each))
        for hop, each in peaceful.items()
    }


def test_capture_on_the_bridge_agrees_with_what_the_hops_report(shop: World) -> None:
    """Every packet lies between the stamps on both its sides, and the means agree to within 10 %
    or 50 µs, where nobody else takes the processor between a packet and its stamp and nobody
    sets the wall clock, which the kernel stamps packets with: of several batches one in peace is
    enough for each hop, and a wrong report is wrong in all of them."""
    far = dict.fromkeys(ADDRESSES.keys() - {"nginx-lb"}, "no batch")
    with contextlib.closing(Asker(shop)) as asker:
        for kind in ("product", "order") * 5:
            asker.ask(kind)  # connections are made
        with first_in_line(shop):
            for _ in range(BATCHES):
                try:
                    means = compared(*one_batch(shop, asker), waking_us(shop))
                except AssertionError as error:
                    far = dict.fromkeys(far, str(error))
                    continue
                assert means.keys() == ADDRESSES.keys() - {"nginx-lb"}
                for hop, (reported, captured) in means.items():
                    if abs(reported - captured) <= max(WITHIN_US, WITHIN * captured):
                        far.pop(hop, None)
                    elif hop in far:
                        far[hop] = f"reported {reported:.0f} µs, captured {captured:.0f} µs"
                if not far:
                    break
    assert far == {}


def one_batch(shop: World, asker: Asker) -> tuple[list[Asked], list[Packet]]:
    """Requests one after the other, and all packets meanwhile."""
    with contextlib.ExitStack() as stack:
        captures = [stack.enter_context(Capture(shop, f"veth-{port}-br")) for port in PORTS]
        traces = [asker.ask(kind) for _ in range(BATCH) for kind in ("product", "order")]
        asked = [asker.told(trace) for trace in traces]
    packets = sorted((p for each in captures for p in each.packets), key=lambda p: p.at_us)
    return asked, packets


def waking_us(shop: World) -> float:
    """What lies between the packets on the bridge and a caller that does nothing but wait: both
    ways through the kernel, and until it runs again. A question to Redis from a namespace that
    may ask it; the median, since it is the same work each time."""
    took_us, stamp_us = [], lambda: time.monotonic_ns() / 1000
    with Capture(shop, "veth-redis-br") as capture:
        with inside(NETNS_DIR / f"{shop.host}.order-service"):
            caller = socket.create_connection((ADDRESSES["redis-cache"], 6379), timeout=10)
        with caller:
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            own = caller.getsockname()
            for _ in range(BATCH):
                begun_us = stamp_us()
                caller.sendall(b"PING\r\n")
                assert caller.recv(4096)  # that it must say who it is, which is an answer too
                took_us.append(stamp_us() - begun_us)
    there = [p.at_us for p in capture.packets if p.source == own]
    back = [p.at_us for p in capture.packets if p.target == own]
    pairs = zip(took_us, there, back, strict=True)
    return statistics.median(took - (answered - asked) for took, asked, answered in pairs)


def test_trace_context_goes_through_all_hops(shop: World) -> None:
    """On the wire: the same trace, each hop the parent of the next."""
    with (
        contextlib.closing(Asker(shop)) as asker,
        Capture(shop, "veth-nginx-br") as edge,
        Capture(shop, "veth-gateway-br") as gateway,
    ):
        trace = asker.ask("product")
        asker.told(trace)
    found: dict[str, set[tuple[bytes, bytes]]] = {}
    for packet in (*edge.packets, *gateway.packets):
        for match in PARENT.finditer(packet.payload):
            found.setdefault(packet.target[0], set()).add((match[1], match[2]))
    parents = [found[address] for address in ("10.0.0.10", "10.0.0.20", "10.0.0.30")]
    assert [len(each) for each in parents] == [1, 1, 1]
    assert {pair[0] for each in parents for pair in each} == {trace.encode()}
    assert parents[1] != parents[2]
