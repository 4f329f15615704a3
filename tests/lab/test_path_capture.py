"""What the hops say of their times, against the packets on the bridge."""

from __future__ import annotations

import contextlib
import re
import statistics
from typing import TYPE_CHECKING

from asked import Asked, Asker
from capture import Capture, Packet

from orchestrator.path.spans import Call, Stay

if TYPE_CHECKING:
    from rig import World

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


def compared(asked: list[Asked], packets: list[Packet]) -> dict[str, tuple[float, float]]:
    """For each hop below the edge the means of what it reported and of what was captured:
    how long a call of it took, those that it made itself left out."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for each in asked:
        seen = [
            p
            for p in packets
            if each.request.root.arrived_us <= p.at_us <= each.request.root.left_us
        ]
        for caller, call in calls_of(each.request.root):
            begin_us, end_us = on_the_wire(caller, call, seen)
            if call.stay is not None:  # the packet passes on the way, not before or after it
                assert begin_us <= call.stay.arrived_us + SLACK_US
                assert end_us >= call.stay.left_us - SLACK_US
            reported_us, captured_us = float(call.received_us - call.sent_us), end_us - begin_us
            for inner in call.stay.calls if call.stay else ():
                begin_us, end_us = on_the_wire(call.callee, inner, seen)
                reported_us -= inner.received_us - inner.sent_us
                captured_us -= end_us - begin_us
            rows.setdefault(call.callee, []).append((reported_us, captured_us))
    return {
        hop: (statistics.fmean(r for r, _ in each), statistics.fmean(c for _, c in each))
        for hop, each in rows.items()
    }


def test_capture_on_the_bridge_agrees_with_what_the_hops_report(shop: World) -> None:
    """Every packet lies between the stamps on both its sides, always. The means agree to within
    10 % or 50 µs where nobody else takes the processor between a packet and its stamp: of
    several batches one in peace is enough, and a wrong report is wrong in all."""
    asker = Asker(shop)
    for kind in ("product", "order") * 5:
        asker.ask(kind)  # connections are made
    far: list[str] = []
    for _ in range(BATCHES):
        with contextlib.ExitStack() as stack:
            captures = [stack.enter_context(Capture(shop, f"veth-{p}-br")) for p in PORTS]
            traces = [asker.ask(kind) for _ in range(BATCH) for kind in ("product", "order")]
            asked = [asker.told(trace) for trace in traces]
        packets = sorted((p for each in captures for p in each.packets), key=lambda p: p.at_us)
        means = compared(asked, packets)
        assert means.keys() == ADDRESSES.keys() - {"nginx-lb"}
        print(means)
        far = [
            f"{hop}: reported {reported:.0f} µs, captured {captured:.0f} µs"
            for hop, (reported, captured) in means.items()
            if abs(reported - captured) > max(WITHIN_US, WITHIN * captured)
        ]
        if not far:
            break
    asker.close()
    assert far == []


def test_trace_context_goes_through_all_hops(shop: World) -> None:
    """On the wire: the same trace, each hop the parent of the next."""
    asker = Asker(shop)
    with Capture(shop, "veth-nginx-br") as edge, Capture(shop, "veth-gateway-br") as gateway:
        trace = asker.ask("product")
        asker.told(trace)
    asker.close()
    found: dict[str, set[tuple[bytes, bytes]]] = {}
    for packet in (*edge.packets, *gateway.packets):
        for match in PARENT.finditer(packet.payload):
            found.setdefault(packet.target[0], set()).add((match[1], match[2]))
    parents = [found[address] for address in ("10.0.0.10", "10.0.0.20", "10.0.0.30")]
    assert [len(each) for each in parents] == [1, 1, 1]
    assert {pair[0] for each in parents for pair in each} == {trace.encode()}
    assert parents[1] != parents[2]
