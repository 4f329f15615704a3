"""What clients may ask of the catalogue; loaded when it is needed, see checking.py."""

from __future__ import annotations

from typing import Annotated

from product.app import PAGE_SIZE
from pydantic import BaseModel, ConfigDict, Field
from shared.fields import Digits


class Page(BaseModel):
    """`?limit=…&offset=…`."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[Digits, Field(ge=1, le=100)] = PAGE_SIZE
    offset: Annotated[Digits, Field(ge=0, le=1_000_000)] = 0
