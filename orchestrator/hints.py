"""Commands of ours that are told to people, for the lab that is meant: with its options.

Whoever copies one must not act on another lab. Texts are written without options, and get those
of the process's command where they are shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

COMMAND = re.compile(r"((?:^|[`;:] ?)orchestrator (?:(?:analyze|secrets) )?[a-z]+)", re.MULTILINE)

_options: list[Callable[[], str]] = []


def remember(options: Callable[[], str]) -> None:
    """Which options a person would have to type for the lab of this process's command."""
    _options[:] = [options]


def hinted(text: str) -> str:
    """The text, each command of ours in it with the lab's options."""
    if not _options or not COMMAND.search(text) or not (options := _options[0]()):
        return text
    return COMMAND.sub(lambda found: f"{found[1]} {options}", text)


def hinted_document(document: Any) -> Any:
    """The same of every text in lists and mappings."""
    match document:
        case str():
            return hinted(document)
        case dict():
            return {key: hinted_document(each) for key, each in document.items()}
        case list() | tuple():
            return [hinted_document(each) for each in document]
    return document
