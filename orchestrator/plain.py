"""Frozen values with named fields, as cheap to define as a class can be.

`dataclass` writes and compiles six functions for each class, a millisecond each time a program
starts; these share theirs. Type checkers take them for frozen dataclasses with keywords only
(PEP 681). They are made from what was validated: no default and no check of types is needed.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self, dataclass_transform


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Plain:
    """A base without fields of its own."""

    FIELDS: ClassVar[frozenset[str]] = frozenset()  # names that are annotated, its bases' too

    def __init_subclass__(cls) -> None:
        cls.FIELDS = cls.FIELDS.union(vars(cls).get("__annotations__", ()))

    def __init__(self, **values: Any) -> None:
        if wrong := self.FIELDS ^ values.keys():
            raise TypeError(
                f"{type(self).__name__}: missing or unknown: {', '.join(sorted(wrong))}"
            )
        vars(self).update(values)

    def values(self) -> dict[str, Any]:
        """Its fields, without what was computed from them."""
        return {name: value for name, value in vars(self).items() if name in self.FIELDS}

    def changed(self, **values: Any) -> Self:
        """A copy with other values in some fields."""
        return type(self)(**{**self.values(), **values})

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Plain)
            and type(self) is type(other)
            and (self.values() == other.values())
        )

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.values().items())
        return f"{type(self).__name__}({given})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")
