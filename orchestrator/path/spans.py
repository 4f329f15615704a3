"""One request's way through the hops: from its line in the edge's log to where its time went.

Pure. All times are whole microseconds of one CLOCK_MONOTONIC; services/shared/hops.py says
what the hops stamp, and services/edge/nginx.conf writes the line (with tabs):

    weight  arrived  sent  answered  done  status  upstream status  trace id  path  X-Hop

or, where the edge can only tell milliseconds, its `$request_time` and three empty fields in
place of the stamps. Weight is how many requests it stands for. Those others have a line
without a weight, which begins with a tab:

    status  `$request_time`  X-Hop, or the path where nobody behind the edge answered

where X-Hop is `,,,ROUTE` if the edge knows the route and has not asked for it.
"""

from __future__ import annotations

import random
from itertools import pairwise

from msgspec import Struct, field

FIELDS, COUNTED_FIELDS = 10, 4
HEALTH = "/health"  # asked of the edge by whoever watches it: no request of the platform
OTHER = "other"
EXACT_US, COARSE_US = 1, 1000  # what the edge's stamps resolve
OWN = "6f726368"  # "orch": how trace ids of the orchestrator's own requests begin

Pieces = list[tuple[int, int, float]]  # begin, end, weight: the part of the time that counts


class Stay(Struct):
    """A request inside one hop, from its arrival to its leaving."""

    hop: str
    arrived_us: int
    left_us: int
    calls: list[Call] = field(default_factory=list)


class Call(Struct):
    """A call as its caller saw it, and the callee's own stay within it, if it stamps."""

    callee: str
    result: str  # an HTTP status, `ok` or `error`
    sent_us: int
    received_us: int
    stay: Stay | None


class Request(Struct):
    """A request through the edge."""

    trace: str
    route: str
    path: str
    status: int
    root: Stay
    resolution_us: int
    is_partial: bool  # somebody was asked who did not tell of it, or of all that it called
    weight: int = 1  # requests that it stands for, itself included

    @property
    def total_us(self) -> int:
        return self.root.left_us - self.root.arrived_us

    @property
    def is_own(self) -> bool:
        """Whether the orchestrator itself asked, not a user."""
        return self.route == HEALTH or self.trace.startswith(OWN)


def own_traceparent() -> tuple[str, str]:
    """A new trace id that says that we ask, and the `traceparent` (W3C Trace Context) for it."""
    trace = f"{OWN}{random.getrandbits(96):024x}"
    return trace, f"00-{trace}-0000000000000001-01"


class Shares(Struct):
    """Where one request's time went, in microseconds; all of it adds up to its total."""

    hops: dict[str, float] = field(default_factory=dict)
    transits: list[tuple[str, str, float, float]] = field(default_factory=list)  # there, and back
    unattributed_us: float = 0.0


def parse(line: str, edge: str) -> Request:
    """The request of one line of the log of `edge`. Raises ValueError."""
    fields = line.split("\t")
    if len(fields) != FIELDS:
        raise ValueError(f"{len(fields)} fields instead of {FIELDS}")
    weight, arrived, sent, answered, done, status, upstream, trace, path, below = fields
    is_exact = done != ""
    root = Stay(edge, int(arrived), int(done)) if is_exact else Stay(edge, 0, _ms(arrived))
    route, is_cut = _route_of(path), False
    if upstream != "-":
        result = upstream.rpartition(" ")[2]  # of the last one, where the first was refused
        if below != "-":
            route, stay, is_cut = _stay(below)
            if is_exact:
                call = Call(stay.hop, result, int(sent), int(answered), stay)
            else:
                # Too coarse for the ways there and back: they count as the edge's own time.
                call = Call(stay.hop, result, stay.arrived_us, stay.left_us, stay)
                root.left_us = stay.left_us
                root.arrived_us = min(stay.left_us - _ms(arrived), stay.arrived_us)
        elif is_exact:
            call = Call("", result, int(sent), int(answered), None)
        else:
            call = Call("", result, root.arrived_us, root.left_us, None)
        root.calls.append(call)
    is_partial = is_cut or (upstream != "-" and below == "-")
    resolution_us = EXACT_US if is_exact else COARSE_US
    stands_for = int(weight)
    if stands_for < 1:
        raise ValueError(f"weight {weight}")
    return Request(trace, route, path, int(status), root, resolution_us, is_partial, stands_for)


def parse_counted(line: str) -> tuple[str, int, int]:
    """Route, status and microseconds of a line without a weight. Raises ValueError."""
    fields = line.split("\t")
    if len(fields) != COUNTED_FIELDS:
        raise ValueError(f"{len(fields)} fields instead of {COUNTED_FIELDS}")
    _, status, time_s, told = fields
    route = _route_of(told) if told[:1] == "/" else told.split(",", 3)[-1]
    return route, int(status), _ms(time_s)


def _route_of(path: str) -> str:
    """Of what the edge answers by itself."""
    return HEALTH if path == HEALTH else OTHER


def _ms(seconds: str) -> int:
    """Microseconds of nginx's `0.012`."""
    return round(float(seconds) * 1e6)


def _stay(header: str) -> tuple[str, Stay, bool]:
    """Route and stay of an X-Hop header, with everything that was called below; whether calls
    were left out, whose time then counts as their caller's own."""
    own, *entries = header.split(";")
    is_cut = bool(entries) and entries[-1].startswith("+")
    if is_cut:
        entries.pop()
    hop, arrived, left, route = own.split(",", 3)
    top = Stay(hop, int(arrived), int(left))
    stays = {hop: [top]}
    found: list[tuple[str, Call]] = []
    for entry in entries:
        edge, result, *stamps = entry.split(",")
        caller, _, callee = edge.partition(">")
        stay = None
        if len(stamps) == 4:
            stay = Stay(callee, int(stamps[2]), int(stamps[3]))
            stays.setdefault(callee, []).append(stay)
        elif len(stamps) != 2:
            raise ValueError(f"{len(stamps)} stamps of {edge}")
        found.append((caller, Call(callee, result, int(stamps[0]), int(stamps[1]), stay)))
    for caller, call in found:
        homes = stays.get(caller)
        if homes is None:
            raise ValueError(f"{caller} called, but nobody called it")
        if len(homes) > 1:  # called twice: each call belongs to the stay that it was made in
            homes = [s for s in homes if s.arrived_us <= call.sent_us <= s.left_us] or homes
        homes[0].calls.append(call)
    return route, top, is_cut


def shares(request: Request) -> Shares:
    """Each moment of the request belongs to one hop or one way between two, or is shared
    evenly by those that were at work side by side: nothing counts twice, nothing is negative."""
    found = Shares()
    root = request.root
    if root.left_us > root.arrived_us:
        _share(root, [(root.arrived_us, root.left_us, 1.0)], found)
    return found


def _share(stay: Stay, pieces: Pieces, found: Shares) -> None:
    own = 0.0
    for begin, end, weight in pieces:
        own += (end - begin) * weight
    for call, mine in _in_turn(stay, pieces) or _side_by_side(stay, pieces):
        for begin, end, weight in mine:
            own -= (end - begin) * weight
        _share_call(stay.hop, call, mine, found)
    found.hops[stay.hop] = found.hops.get(stay.hop, 0.0) + own


def _in_turn(stay: Stay, pieces: Pieces) -> list[tuple[Call, Pieces]]:
    """Each call with the pieces of its time; empty if two were under way at once.

    The usual case; the general one below takes ten times as long.
    """
    found = []
    last = stay.arrived_us
    for call in stay.calls:
        sent, received = call.sent_us, call.received_us
        if sent < last or received > stay.left_us:
            return []
        last = received
        mine = [
            (begin if begin > sent else sent, end if end < received else received, weight)
            for begin, end, weight in pieces
            if begin < received and sent < end
        ]
        found.append((call, mine))
    return found


def _side_by_side(stay: Stay, pieces: Pieces) -> list[tuple[Call, Pieces]]:
    """The same where calls overlap: each moment is shared by those under way in it."""
    mine: list[Pieces] = [[] for _ in stay.calls]
    for begin, end, weight in pieces:
        cuts = {begin, end}
        for call in stay.calls:
            cuts |= {min(max(each, begin), end) for each in (call.sent_us, call.received_us)}
        edges = sorted(cuts)
        for first, last in pairwise(edges):
            active = [
                number
                for number, call in enumerate(stay.calls)
                if call.sent_us <= first and last <= call.received_us
            ]
            for number in active:
                mine[number].append((first, last, weight / len(active)))
    return list(zip(stay.calls, mine, strict=True))


def _share_call(caller: str, call: Call, pieces: Pieces, found: Shares) -> None:
    if call.stay is None:
        time_us = sum((end - begin) * weight for begin, end, weight in pieces)
        if call.callee:
            found.hops[call.callee] = found.hops.get(call.callee, 0.0) + time_us
        else:
            found.unattributed_us += time_us
        return
    there, inner, back = 0.0, [], 0.0
    stay = call.stay
    for begin, end, weight in pieces:
        arrived = min(max(begin, stay.arrived_us), end)
        left = max(min(end, stay.left_us), arrived)
        there += (arrived - begin) * weight
        back += (end - left) * weight
        if left > arrived:
            inner.append((arrived, left, weight))
    found.transits.append((caller, call.callee, there, back))
    _share(stay, inner, found)
