"""What is wrong with the form of a stack file, in words for who wrote it: pydantic's errors as
problems, each with its line."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from orchestrator import readiness, schema
from orchestrator.document import Path, dotted, line_of
from orchestrator.errors import Problem
from orchestrator.fields import Model
from orchestrator.near import did_you_mean

# By pydantic's names for errors; what is not here has words of its own that will do.
WORDS = {
    "missing": "is missing",
    "tuple_type": "must be a list, e.g. [a, b]",
    "dict_type": "must be a mapping, e.g. {{name: value}}",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} item",
    "too_long": "must have at most {max_length} items",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "ip_v4_address": "must be an IPv4 address, e.g. 10.0.0.10",
    "ip_v4_interface": "must be an IPv4 address with its prefix length, e.g. 10.0.0.1/16",
}
SHORT = {  # of models that may also be written as a text
    "Attachment": "must be an address, e.g. 10.0.0.10, or a mapping with address and interface",
    "PublishedPort": "must be the host's port and the service's, e.g. \"8080:80\"",
}
NEEDS = "must be a list of names, e.g. [db], or a mapping, e.g. {db: ready}"
FEW = 6  # keys of a mapping that are named where there is none


def problems_of(error: ValidationError, lines: dict[Path, int]) -> list[Problem]:
    """Every error as a problem; the keys that a mapping may have are listed once."""
    problems = []
    listed: set[type[Model]] = set()
    errors = error.errors()
    for item in errors:
        at = item["loc"]
        if item["type"] == "too_short" and any(
            other["loc"][: len(at)] == at for other in errors if other is not item
        ):
            continue  # what is wrong in the list is not counted as being in it
        if (path := _place(at, lines)) is None:
            continue  # a list, of which the other branch of the union tells what is wrong
        if item["type"] == "extra_forbidden":
            message = _unknown(path, listed)
        else:
            message = _found(_message(item, path), item)
        problems.append(Problem(dotted(path), line_of(path, lines), message))
    return problems


def _place(at: Path, lines: dict[Path, int]) -> Path | None:
    """Where that is in the file: without pydantic's names for the branches of a union, which a
    key of the file may look like; None for the branch of a single word."""
    path: Path = ()
    for part in at:
        if (*path, part) in lines or not str(part).startswith(("[key]", "tuple[", "literal[")):
            path = (*path, part)
        elif str(part).startswith("literal["):
            return None
    return path


def _message(item: Any, path: Path) -> str:
    """What is expected there."""
    if item["type"] == "model_type":
        name = item["ctx"]["class_name"]
        return SHORT.get(name) or _mapping(getattr(schema, name, getattr(readiness, name, None)))
    if item["type"] == "dict_type" and path[-1] == "needs":
        return NEEDS
    if (words := WORDS.get(item["type"])) is not None:
        return words.format(**item.get("ctx", {}))
    return str(item["msg"]).removeprefix("Value error, ")


def _mapping(model: type[Model] | None) -> str:
    names = _keys(model) if model else []
    return "must be a mapping" + (f" with {', '.join(names)}" if 0 < len(names) <= FEW else "")


def _found(message: str, item: Any) -> str:
    """The message with what stands there instead, where it does not say so itself."""
    value = item["input"]
    match value:
        case None:
            text = "nothing"
        case int() if abs(value) > 10**60:  # too long for text, and for anybody
            text = "a huge number"
        case str() | int() | float():
            text = repr(str(value)[:60])
        case list():
            text = "a list"
        case _:
            text = "a mapping"
    is_told = item["type"] in ("missing", "too_short", "too_long") or text in message
    if is_told or (item["type"] == "value_error" and not isinstance(value, str | int | float)):
        return message
    return f"{message} (found {text})"


def _unknown(path: Path, listed: set[type[Model]]) -> str:
    """With the keys that could be meant; those of a mapping are listed for its first one."""
    *above, key = path
    if (model := _model_at(above)) is None:
        return "unknown key"
    names = _keys(model)
    more = "" if model in listed else f"; known here: {', '.join(sorted(names))}"
    listed.add(model)
    return f"unknown key{did_you_mean(str(key), names)}{more}"


def _keys(model: type[Model]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(path: list[str | int]) -> type[Model] | None:
    """What stands at that place of a stack file."""
    hint: Any = schema.Stack
    for part in path:
        hint = _inside(hint, part)
    return next((each for each in _members(hint) if _is_model(each)), None)


def _inside(hint: Any, part: str | int) -> Any:
    for each in _members(hint):
        if _is_model(each):
            hints = typing.get_type_hints(each, include_extras=True)
            for name, field in each.model_fields.items():
                if part in (name, field.alias):
                    return hints[name]
        elif (origin := typing.get_origin(each)) in (dict, tuple):
            return typing.get_args(each)[1 if origin is dict else 0]
    return None


def _members(hint: Any) -> Iterator[Any]:
    """Types without what only bounds them, those of a union each."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(hint)[0])
    elif origin in (typing.Union, types.UnionType):
        for each in typing.get_args(hint):
            yield from _members(each)
    else:
        yield hint


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Model)
