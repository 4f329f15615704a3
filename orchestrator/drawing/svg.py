"""SVG by hand: escaped text, one style sheet for light and dark, no scripts, nothing external."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from msgspec import Struct, field

MONO_EM = 0.605  # advance of one character of the usual monospaced fonts, in font sizes

# What is drawn is one of these classes; SVG viewers without CSS variables exist (librsvg),
# so both themes are spelled out.
LIGHT = {
    "bg": "fill:#ffffff",
    "halo": "stroke:#ffffff",
    "ink": "fill:#0f172a",
    "muted": "fill:#526074",
    "warn": "fill:#b42318",
    "card": "fill:#f8fafc;stroke:#cbd5e1",
    "area": "fill:#f1f5f9;stroke:#cbd5e1",
    "bar": "fill:#dbe7fb;stroke:#7fa3dd",
    "pill": "fill:#ffffff;stroke:#94a3b8",
    "ghost": "fill:none;stroke:#d0483b;stroke-dasharray:5 4",
    "alien": "fill:#fff7e6;stroke:#c9892b",
    "edge": "fill:none;stroke:#8493a8",
    "cut": "fill:none;stroke:#d0483b;stroke-dasharray:5 4",
    "tip": "fill:#8493a8",
    "good": "fill:#2e9e5b",
    "bad": "fill:#d0483b",
    "zebra": "fill:#f4f7fb",
    "grid": "fill:none;stroke:#dde4ed",
    "wait": "fill:none;stroke:#a9b6c8;stroke-dasharray:1 3",
    "fail": "fill:none;stroke:#d0483b;stroke-width:1.6",
    "way": "fill:none;stroke:#0f172a;stroke-width:1.6",
}
DARK = {
    "bg": "fill:#0f1520",
    "halo": "stroke:#0f1520",
    "ink": "fill:#e6ecf5",
    "muted": "fill:#9aa8bc",
    "warn": "fill:#ff8a7d",
    "card": "fill:#182131;stroke:#3a4860",
    "area": "fill:#141c2a;stroke:#33415a",
    "bar": "fill:#1d3357;stroke:#4f78b8",
    "pill": "fill:#0f1520;stroke:#5b6b85",
    "ghost": "fill:none;stroke:#ff8a7d;stroke-dasharray:5 4",
    "alien": "fill:#33270f;stroke:#c9892b",
    "edge": "fill:none;stroke:#71819b",
    "cut": "fill:none;stroke:#ff8a7d;stroke-dasharray:5 4",
    "tip": "fill:#71819b",
    "good": "fill:#4cc27f",
    "bad": "fill:#ff8a7d",
    "zebra": "fill:#131b29",
    "grid": "fill:none;stroke:#243044",
    "wait": "fill:none;stroke:#4a5a74;stroke-dasharray:1 3",
    "fail": "fill:none;stroke:#ff8a7d;stroke-width:1.6",
    "way": "fill:none;stroke:#e6ecf5;stroke-width:1.6",
}
# Hues that stay apart for colour-blind eyes (after Okabe and Ito), as a stripe: light, dark.
STRIPES = (
    ("#3b6fc4", "#79a6f2"),
    ("#0f8a80", "#41c4b8"),
    ("#8a5cc2", "#bb97ee"),
    ("#c25b12", "#f0a062"),
    ("#3f8f3a", "#83cf7d"),
    ("#b83a78", "#f08abb"),
    ("#8a7410", "#d8c25a"),
    ("#56657a", "#a3b1c6"),
    ("#1d9bd1", "#86d6f8"),
)
HUES = len(STRIPES)
BASE = (
    "text{font-family:ui-monospace,'SF Mono',SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',"
    "monospace;font-size:12px}.head{font-size:15px;font-weight:700}.bold{font-weight:700}"
    ".small{font-size:10.5px}.tiny{font-size:8px}.end{text-anchor:end}.middle{text-anchor:middle}"
    ".halo{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}"
    ".edge,.cut{stroke-width:1.4}.started{stroke-dasharray:6 4}.beside{stroke-dasharray:6 4}"
    ".completed{stroke-dasharray:1.5 3.5;stroke-linecap:round;stroke-width:2}"
)


def style_sheet() -> str:
    """The classes for light, and in a media query for dark."""

    def rules(theme: dict[str, str], shade: int) -> str:
        found = [f".{name}{{{value}}}" for name, value in theme.items()]
        found += [f".s{number}{{fill:{pair[shade]}}}" for number, pair in enumerate(STRIPES)]
        return "".join(found)

    dark = f"@media (prefers-color-scheme: dark){{{rules(DARK, 1)}}}"
    return f"{BASE}{rules(LIGHT, 0)}{dark}"


def text_width(text: str, size: float = 12.0) -> float:
    """How wide a monospaced text will be; wide characters count twice."""
    cells = sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)
    return cells * size * MONO_EM


def printable(text: str) -> str:
    """Without characters that XML forbids or that would not be seen."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def cut(text: str, width: float, size: float = 12.0) -> str:
    """The text, or as much of it as fits, ending in `…`."""
    text = printable(text)
    if text_width(text, size) <= width + 0.1:  # sums of floats
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text}…"


def number(value: float) -> str:
    """Short and the same everywhere: `12`, `12.5`."""
    return f"{value:.1f}".removesuffix(".0")


class Page(Struct):
    """Collects shapes in the order of painting; `render` gives the document."""

    title: str
    about: str
    shapes: list[str] = field(default_factory=list)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        names: str,
        *,
        radius: float = 8,
        title: str = "",
    ) -> None:
        """A rectangle with round corners; the title is what a screen reader and a mouse find."""
        at = (
            f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
            f'rx="{number(radius)}"'
        )
        self._add("rect", at, names, title)

    def text(self, x: float, y: float, text: str, names: str = "ink") -> None:
        """One line of text; (x, y) is the left end of its base line, or what `names` says."""
        shown = escape(printable(text))
        self.shapes.append(
            f'<text x="{number(x)}" y="{number(y)}" class={quoteattr(names)} '
            f'xml:space="preserve">{shown}</text>'
        )

    def path(self, data: str, names: str, *, title: str = "", arrow: bool = False) -> None:
        end = ' marker-end="url(#tip)"' if arrow else ""
        self._add("path", f'd="{data}"{end}', names, title)

    def dot(self, x: float, y: float, names: str, *, title: str = "", radius: float = 4) -> None:
        at = f'cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"'
        self._add("circle", at, names, title)

    def _add(self, kind: str, attributes: str, names: str, title: str) -> None:
        inner = f"<title>{escape(printable(title))}</title></{kind}>" if title else ""
        close = f">{inner}" if inner else "/>"
        self.shapes.append(f"<{kind} {attributes} class={quoteattr(names)}{close}")

    def render(self, width: float, height: float) -> str:
        size = f"{number(width)} {number(height)}"
        at = f'width="{number(width)}" height="{number(height)}"'
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {at}',
            '     role="img" aria-labelledby="title about">',
            f'<title id="title">{escape(printable(self.title))}</title>',
            f'<desc id="about">{escape(printable(self.about))}</desc>',
            f"<style>{style_sheet()}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4"',
            '  markerWidth="6.5" markerHeight="6.5" markerUnits="userSpaceOnUse" orient="auto">',
            '  <path d="M0 0.5 L8 4 L0 7.5 z" class="tip"/></marker></defs>',
            f'<rect {at} rx="10" class="bg"/>',
        ]
        return "\n".join([*head, *self.shapes, "</svg>"]) + "\n"


def flowing(
    widths: Iterable[float], *, room: float, gap: float
) -> tuple[list[tuple[float, int]], int]:
    """Places things side by side in rows: (x, row) of each, and how many rows that takes."""
    found: list[tuple[float, int]] = []
    x, row = 0.0, 0
    for width in widths:
        if x and x + width > room:
            x, row = 0.0, row + 1
        found.append((x, row))
        x += width + gap
    return found, row + 1 if found else 0
