"""YAML text to plain data plus the line of every path in it."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from orchestrator.errors import Problem, SpecError
from orchestrator.known import MAX_BYTES
from orchestrator.terminal import clean

Path = tuple[str | int, ...]
MAX_DEPTH = 30
STARTS = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
ENDS = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
# libyaml is ten times as fast; the loader in Python has the better words for what is wrong.
FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str, file: str) -> tuple[Any, dict[Path, int]]:
    """The document and the 1-based line of each path.

    Raises SpecError for what is not YAML, for duplicate keys, and for aliases (they make
    documents whose size cannot be judged from their text).
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise SpecError(file, [Problem("(file)", 1, f"larger than {MAX_BYTES:,} bytes")])
    try:
        root = _compose(text, file, FAST)
    except yaml.YAMLError:
        root = _compose_or_tell(text, file)
    lines: dict[Path, int] = {(): 1}
    if root is None:
        return None, lines
    problems: list[Problem] = []
    data = _build(root, (), lines, problems, SafeConstructor())
    if problems:
        raise SpecError(file, problems)
    return data, lines


def _compose(text: str, file: str, loader: Any) -> yaml.Node | None:
    """The document's root. Raises SpecError for what is not allowed, YAMLError."""
    depth = 0
    for token in yaml.scan(text, Loader=loader):
        if isinstance(token, STARTS):
            depth += 1
            if depth > MAX_DEPTH:
                line = token.start_mark.line + 1
                raise SpecError(file, [Problem("(file)", line, "nested too deeply")])
        elif isinstance(token, ENDS):
            depth -= 1
        if isinstance(token, yaml.AliasToken):
            line = token.start_mark.line + 1
            raise SpecError(file, [Problem("(file)", line, "YAML aliases are not allowed")])
    root: yaml.Node | None = yaml.compose(text, Loader=loader)
    return root


def _compose_or_tell(text: str, file: str) -> yaml.Node | None:
    """The same with every error as a SpecError."""
    try:
        return _compose(text, file, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = mark.line + 1 if mark else 1
        raise SpecError(file, [Problem("(file)", line, f"not YAML: {reason}")]) from error


def _build(
    node: yaml.Node,
    at: Path,
    lines: dict[Path, int],
    problems: list[Problem],
    constructor: SafeConstructor,
) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            try:
                key = _scalar(key_node, constructor)
                hash(key)
            except (TypeError, ValueError, yaml.YAMLError):
                problems.append(Problem(dotted(at), line, "a key must be plain text"))
                continue
            path = (*at, key if isinstance(key, int) else str(key))
            if key in mapping:
                problems.append(Problem(dotted(path), line, "appears twice"))
            lines[path] = line
            mapping[key] = _build(value_node, path, lines, problems, constructor)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(item, (*at, index), lines, problems, constructor)
            for index, item in enumerate(node.value)
        ]
    try:
        return _scalar(node, constructor)
    except (ValueError, yaml.YAMLError) as error:
        problems.append(Problem(dotted(at), node.start_mark.line + 1, str(error)))
        return None


def _scalar(node: yaml.Node, constructor: SafeConstructor) -> Any:
    value = constructor.construct_object(node, deep=True)
    if isinstance(value, str) and any("\ud800" <= each <= "\udfff" for each in value):
        raise ValueError("holds half of a character (a surrogate of UTF-16)")
    return value if isinstance(value, str | int | float | bool | None) else node.value


def dotted(path: Path) -> str:
    """`services.order.files` for people."""
    return clean(".".join(str(part) for part in path)) or "(file)"


def line_of(path: Path, lines: dict[Path, int]) -> int:
    """The line of the path, or of the nearest thing around it."""
    while path not in lines:
        path = path[:-1]
    return lines[path]
