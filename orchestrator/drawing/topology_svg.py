"""A lab's network as a picture: the host with its bridges on the left, namespaces on the right.

A veth pair is a line that crosses the host's border, as it does in the kernel. No process or
link number is shown, so that the same network gives the same picture.
"""

from __future__ import annotations

from msgspec import Struct

from orchestrator.drawing.network import (
    FORWARDING,
    LIVE,
    MISSING,
    Bridge,
    Interface,
    Network,
    Place,
    Port,
)
from orchestrator.drawing.svg import Page, cut, flowing, number, text_width
from orchestrator.terminal import counted

WIDTH, MARGIN, PAD = 1000.0, 16.0, 16.0
HOST_LEFT, HOST_RIGHT = MARGIN, 474.0
BAR_LEFT, BAR_WIDTH = HOST_LEFT + PAD, 138.0
PILL_LEFT, PILL_RIGHT, PILL_HEIGHT = 218.0, 442.0, 30.0
CARD_LEFT, CARD_RIGHT = 548.0, WIDTH - MARGIN
CARD_TOP, LINE, CARD_GAP = 26.0, 18.0, 12.0
SMALL, INDENT = 10.5, 16.0
BADGES_FROM = 200.0  # of a card's width, which its names keep


class Line(Struct, frozen=True):
    """One line of a card: the text, its class, a state as a dot or none, a remark at the end."""

    text: str
    names: str = "ink"
    dot: str = ""
    remark: str = ""


class Card(Struct, frozen=True):
    """What stands at the end of a port."""

    title: str
    note: str
    names: str
    lines: tuple[Line, ...]
    badges: tuple[tuple[str, str], ...] = ()  # text and class

    @property
    def height(self) -> float:
        return CARD_TOP + LINE * len(self.lines) + 10


def as_svg(network: Network) -> str:
    """The picture, 1,000 units wide."""
    page = Page(
        f"Network of {network.lab}",
        f"{counted(len(network.places), 'network namespace')} on "
        f"{counted(len(network.bridges), 'bridge')}.",
    )
    page.text(MARGIN, 30, f"{network.lab}: network as the kernel has it", "ink head")
    _legend(page, network)
    top = 46.0
    facts = _facts(network)
    y = top + 44 + LINE * len(facts)
    starts = []
    for bridge in network.bridges:
        cards = [_card(network, port) for port in bridge.ports]
        height = max(sum(card.height + CARD_GAP for card in cards) - CARD_GAP, 64.0)
        starts.append((bridge, cards, y, height))
        y += height + 30
    bottom = y - 30 + PAD
    where = f"network namespace {network.host}" if network.host else "host"
    page.box(HOST_LEFT, top, HOST_RIGHT - HOST_LEFT, bottom - top, "area", radius=12, title=where)
    page.text(HOST_LEFT + PAD, top + 24, where, "ink bold")
    for row, fact in enumerate(facts):
        at = top + 46 + row * LINE
        _line(page, fact, HOST_LEFT + PAD, at, HOST_RIGHT - HOST_LEFT - 2 * PAD)
    for bridge, cards, start, height in starts:
        _bridge(page, bridge, cards, start, height)
    bottom = _apart(page, network, bottom)
    return page.render(WIDTH, _lacks(page, network, bottom) + MARGIN)


def _legend(page: Page, network: Network) -> None:
    """In the corner that nothing else needs."""
    texts = [("good", "up, forwarding, listening"), ("bad", "down or missing")]
    for row, (names, text) in enumerate(texts):
        page.dot(CARD_LEFT + 14 + 4, 66 + row * LINE, names)
        page.text(CARD_LEFT + 14 + INDENT, 70 + row * LINE, text, "muted")
    ports = [port for bridge in network.bridges for port in bridge.ports]
    owned = [each.ours for each in network.bridges] + [each.ours for each in ports]
    owned += [each.ours for each in network.published]
    if not all(owned):
        y = 66 + 2 * LINE
        page.box(CARD_LEFT + 13, y - 5, 10, 10, "alien", radius=2)
        page.text(CARD_LEFT + 14 + INDENT, y + 4, "foreign: not of this lab", "muted")


def _facts(network: Network) -> list[Line]:
    """The host's own interfaces, then what it does for the networks."""
    found = [_interface(each) for each in network.interfaces if each.kind != "loopback"]
    found += [Line(route, "muted") for route in network.routes]
    on = network.forwarding
    found.append(Line("forwarding on" if on else "forwarding off", "ink", "good" if on else "bad"))
    for each in network.published:
        label = network.label_at(each.address) or "nobody"
        text = f":{each.port} → {label} {each.address}:{each.to}"
        found.append(Line(text if each.ours else f"{text} (foreign)", "ink bold"))
    return found


def _interface(each: Interface, remark: str = "") -> Line:
    good = each.state == "up"
    state = "" if good else f"  {each.state}"
    addresses = "  ".join(each.addresses) or "no address"
    names = "ink" if good and each.addresses else "warn"
    return Line(f"{each.name}  {addresses}{state}", names, "good" if good else "bad", remark)


def _line(page: Page, line: Line, x: float, y: float, room: float) -> None:
    if line.dot:
        page.dot(x + 4, y - 4, line.dot)
    room -= INDENT
    text = cut(line.text, room)
    page.text(x + INDENT, y, text, line.names)
    left = room - text_width(text) - 16
    if line.remark and left > 0:
        page.text(x + INDENT + room, y, cut(line.remark, left, SMALL), "muted small end")


def _card(network: Network, port: Port) -> Card:
    """The namespace at the port's other end, or what is there instead."""
    place = network.place(port.place) if port.place else None
    if place is None:
        text = f"{port.interface} on the host" if port.interface else port.kind
        title = port.place or "no namespace"
        return Card(title, "foreign" if not port.ours else "", "alien", (Line(text),))
    return _place(network, place, port.interface)


def _place(network: Network, place: Place, interface: str = "") -> Card:
    note = place.namespace if place.namespace != place.label else ""
    if not place.ours:
        note = f"{note} foreign".strip()
    lines = []
    routes = dict.fromkeys(place.routes)
    for each in sorted(place.interfaces, key=lambda each: each.name != interface):
        own = [route for route in routes if route.endswith(f" dev {each.name}")]
        default = next((route for route in own if route.startswith("default via ")), "")
        routes.pop(default, None)
        lines.append(_interface(each, default.removesuffix(f" dev {each.name}")))
    lines += [Line(route, "muted") for route in routes]
    programs: dict[str, dict[str, None]] = {}  # program → where it listens, each once
    for listener in place.listeners:
        programs.setdefault(listener.program, {})[listener.where] = None
    lines += [
        Line(f"listens {', '.join(where)}  {program}", "ink", "good")
        for program, where in programs.items()
    ]
    nodes = (f"netns:{place.label}", f"service:{place.label}", f"veth:{place.label}")
    lacks = network.lacks_of(*nodes, f"veth:{place.label}.")
    lines += [Line(text, "warn", "bad") for text in lacks]
    if place.state != LIVE and not lacks:
        lines.append(Line(place.state, "warn", "bad"))
    badges = tuple(
        (f"host :{each.port}", "bar" if each.ours else "alien")
        for each in network.published_of(place)
    )
    names = "card" if place.ours else "alien"
    return Card(place.label, note, names if place.state == LIVE else "ghost", tuple(lines), badges)


def _bridge(page: Page, bridge: Bridge, cards: list[Card], top: float, height: float) -> None:
    """The bar, and for every port a pill, a line and a card."""
    live = bridge.state == "up"
    at = top
    for port, card in zip(bridge.ports, cards, strict=True):
        middle = at + min(card.height / 2, 36.0)
        good = port.state == FORWARDING
        names = "edge" if good else "cut"
        title = f"{port.name} – {port.interface or port.kind}: {port.state}"
        start = BAR_LEFT + BAR_WIDTH
        page.path(f"M{number(start)} {number(middle)} H{number(PILL_LEFT)}", names, title=title)
        page.path(
            f"M{number(PILL_RIGHT)} {number(middle)} H{number(CARD_LEFT)}", names, title=title
        )
        _pill(page, port, middle)
        _draw(page, card, at)
        at += card.height + CARD_GAP
    page.box(BAR_LEFT, top, BAR_WIDTH, height, "bar" if live else "ghost", title=bridge.name)
    middle = top + height / 2
    room = BAR_WIDTH - 16
    x = BAR_LEFT + BAR_WIDTH / 2
    page.text(x, middle - 8, cut(bridge.name, room, 13), "ink bold middle")
    addresses = ", ".join(bridge.addresses) or "no address"
    missing = bridge.state == MISSING or not bridge.addresses
    page.text(x, middle + 10, cut(addresses, room), f"{'warn' if missing else 'ink'} middle")
    text = "bridge" if live else f"bridge {bridge.state}"
    text = text if bridge.ours else f"{text}, foreign"
    page.text(x, middle + 28, cut(text, room, SMALL), f"{'muted' if live else 'warn'} small middle")


def _pill(page: Page, port: Port, middle: float) -> None:
    good = port.state == FORWARDING
    names = "pill" if port.ours else "alien"
    if port.state == MISSING:
        names = "ghost"
    page.box(
        PILL_LEFT,
        middle - PILL_HEIGHT / 2,
        PILL_RIGHT - PILL_LEFT,
        PILL_HEIGHT,
        names,
        radius=PILL_HEIGHT / 2,
        title=f"port {port.name}: {port.state}",
    )
    page.dot(PILL_LEFT + 16, middle, "good" if good else "bad", title=port.state)
    end = PILL_RIGHT - 14
    room = end - PILL_LEFT - 28 - text_width(port.state, SMALL) - 8
    page.text(PILL_LEFT + 28, middle + 4, cut(port.name, room))
    page.text(end, middle + 4, port.state, f"{'muted' if good else 'warn'} small end")


def _draw(page: Page, card: Card, top: float) -> None:
    page.box(CARD_LEFT, top, CARD_RIGHT - CARD_LEFT, card.height, card.names, title=card.title)
    end = CARD_RIGHT - 12
    for left, (badge, names) in zip(range(len(card.badges), 0, -1), card.badges, strict=True):
        width = text_width(badge, SMALL) + 16
        if end - width < CARD_LEFT + BADGES_FROM:
            page.text(end, top + 21, f"+{left}", "muted small end")
            end -= text_width(f"+{left}", SMALL) + 6
            break
        page.box(end - width, top + 8, width, 19, names, radius=9.5)
        page.text(end - width / 2, top + 21, badge, "ink small middle")
        end -= width + 6
    x = CARD_LEFT + 14
    title = cut(card.title, (end - x) * 0.6)
    page.text(x, top + 22, title, "ink bold")
    note = x + text_width(title) + 10
    page.text(note, top + 22, cut(card.note, end - note, SMALL), "muted small")
    for row, line in enumerate(card.lines):
        y = top + CARD_TOP + LINE * row + 15
        _line(page, line, x, y, CARD_RIGHT - 12 - x)


def _apart(page: Page, network: Network, bottom: float) -> float:
    """Namespaces that hang on no port."""
    connected = {port.place for bridge in network.bridges for port in bridge.ports}
    for place in network.places:
        if place.label not in connected:
            card = _place(network, place)
            _draw(page, card, bottom + CARD_GAP)
            bottom += card.height + CARD_GAP
    return bottom


def _lacks(page: Page, network: Network, bottom: float) -> float:
    """What the plan has and the kernel lacks, below the picture."""
    if not network.lacks:
        return bottom
    texts = [f"{lack.node}: {lack.text}" for lack in network.lacks]
    page.text(MARGIN, bottom + 28, "The plan has, the kernel lacks:", "warn bold")
    room = WIDTH - 2 * MARGIN
    texts = [cut(text, room) for text in texts]
    spots, rows = flowing((text_width(each) for each in texts), room=room, gap=28)
    for text, (x, row) in zip(texts, spots, strict=True):
        page.text(MARGIN + x, bottom + 48 + row * LINE, text, "warn")
    return bottom + 48 + (rows - 1) * LINE + 8
