"""Text that others wrote, made fit for a terminal: it can neither steer it nor forge a line."""

from __future__ import annotations

INSTEAD = "�"
SEVERAL = "; "  # between the things that an observation has to say


def clean(text: str) -> str:
    """On one line, without control characters and what turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\t" else INSTEAD for each in text)


def clean_lines(text: str) -> str:
    """The same for text of ours that has several lines."""
    return "\n".join(map(clean, text.split("\n")))


def whole_lines(data: bytes) -> list[str]:
    """The lines that have their end. A line feed ends one and nothing else does: str.splitlines
    takes U+2028 and others for an end, and what follows for a line of its own."""
    return [line.removesuffix(b"\r").decode(errors="replace") for line in data.split(b"\n")[:-1]]


def gist(detail: str) -> str:
    """Of what differs, which stands one after the other, the first, and how many more there are."""
    first, *more = detail.split(SEVERAL)
    return f"{first} (and {len(more)} more)" if more else detail


def counted(number: int, word: str) -> str:
    """`1 node`, `2 nodes`, `2 processes`."""
    if number == 1:
        return f"1 {word}"
    return f"{number} {word}{'es' if word.endswith('s') else 's'}"
