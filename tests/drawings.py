"""What every picture must hold to."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"


def boxes(text: str, name: str) -> list[tuple[float, float, float, float]]:
    """x, y, right and bottom of each rectangle of that class."""
    found = []
    for each in ElementTree.fromstring(text).iter(f"{SVG}rect"):
        if name in (each.get("class") or "").split():
            x, y, width, height = (
                float(each.get(key, "0")) for key in ("x", "y", "width", "height")
            )
            found.append((x, y, x + width, y + height))
    return found


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def assert_apart(found: list[tuple[float, float, float, float]]) -> None:
    assert [pair for pair in itertools.combinations(found, 2) if overlap(*pair)] == []


def titles(text: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}title")]


def assert_stands_alone(svg: str) -> None:
    """No script, nothing from elsewhere, light and dark, a title, no class without a look."""
    assert "prefers-color-scheme: dark" in svg
    assert "<script" not in svg
    assert "href" not in svg
    assert set(re.findall(r"https?://[^\s\"<]+", svg)) == {"http://www.w3.org/2000/svg"}
    root = ElementTree.fromstring(svg)
    assert root.find(f"{SVG}title") is not None
    used = {word for each in root.iter() for word in each.get("class", "").split()}
    style = root.findtext(f"{SVG}style", "")
    plain = {"node", "ready"}  # for tests and for people; they look like `card` and `edge`
    assert {word for word in used - plain if f".{word}{{" not in style} == set()
