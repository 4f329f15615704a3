"""Log lines that no input can forge."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(message)s"


class OneRecord(logging.Formatter):
    """A record begins a line, and what belongs to it is indented; it holds no character that
    a terminal would act on, or take for the end of a line."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n")
        return "\n    ".join(printable(line) for line in lines)


def printable(text: str) -> str:
    """With an escape for every character that does not print."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def configure() -> None:
    """Everything that is logged goes to standard error in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneRecord(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
