"""What a stack file may say, and the plain values that it becomes, are the same, field by field."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import asdict, replace
from rig import SHOP

from orchestrator import readiness, schema, spec
from orchestrator.fields import Model
from orchestrator.stackfile import parse_stack


def classes(base: type, *modules: types.ModuleType) -> dict[str, type]:
    return {
        name: each
        for module in modules
        for name, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, base) and each is not base
    }


MODELS = classes(Model, schema, readiness)
PLAIN = classes(Struct, spec)


def shape(hint: Any) -> Any:
    """A type without what only bounds it, models by their names."""
    origin, given = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return shape(given[0])
    if origin is typing.Literal:
        return frozenset(given)
    if origin in (typing.Union, types.UnionType):
        return frozenset(shape(each) for each in given)
    if origin is not None:
        return origin, tuple(shape(each) for each in given)
    return hint.__name__ if hint is not Ellipsis else hint


def test_every_model_has_its_plain_class_and_the_other_way_round() -> None:
    assert MODELS.keys() == PLAIN.keys()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_fields_are_the_same_with_the_same_types(name: str) -> None:
    wanted = typing.get_type_hints(MODELS[name], include_extras=True)
    wanted = {field: wanted[field] for field in MODELS[name].model_fields}  # type: ignore[attr-defined]
    found = typing.get_type_hints(PLAIN[name])
    found = {field: found[field] for field in PLAIN[name].__struct_fields__}  # type: ignore[attr-defined]
    assert {key: shape(each) for key, each in found.items()} == {
        key: shape(each) for key, each in wanted.items()
    }


def test_nothing_of_the_models_is_left_in_a_stack() -> None:
    def walk(value: object) -> None:
        assert not isinstance(value, Model)
        if isinstance(value, Struct):
            value = asdict(value)
        if isinstance(value, dict):
            value = tuple(value.values())
        for each in value if isinstance(value, tuple) else ():
            walk(each)

    walk(parse_stack(SHOP.read_text(), "stack.yaml"))


def test_plain_values_are_frozen_compared_by_their_fields_and_complete() -> None:
    stack = parse_stack(SHOP.read_text(), "stack.yaml")
    same = parse_stack(SHOP.read_text(), "stack.yaml")
    assert stack.home_of("nginx-exporter") == "prometheus"  # computed, and then kept beside them
    assert stack == same
    other = replace(stack, services={})
    assert other != stack
    assert "_homes" not in vars(other)
    with pytest.raises(AttributeError, match="immutable"):
        stack.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError, match="memory"):
        spec.Limits(tasks=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="more"):
        spec.Limits(memory=1, tasks=1, more=1)  # type: ignore[call-arg]
