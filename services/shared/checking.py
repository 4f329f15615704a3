"""Bodies and queries as models; what is wrong with them as problem details.

pydantic takes 90 ms of processor time to load, and no service needs it to be ready: models are
imported by the requests that need them, and for all others by `later`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.problem import Problem

M = TypeVar("M", bound=BaseModel)


def from_json(model: type[M], body: bytes) -> M:
    """Raises Problem 400, 422."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if any(item["type"] == "json_invalid" for item in error.errors()):
            raise Problem(400, "the body is not JSON") from error
        raise _invalid(error) from error


def from_values(model: type[M], values: dict[str, Any]) -> M:
    """Raises Problem 422."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: ValidationError) -> Problem:
    """422 with what pydantic found, each with the place it found it at."""
    found = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]}
        for item in error.errors()
    ]
    return Problem(422, "the request is not valid", errors=found)
