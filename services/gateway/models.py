"""Sessions and carts as clients send them; loaded when it is needed, see checking.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from shared.fields import CustomerId, Whole


class Item(BaseModel):
    """One line of a cart."""

    model_config = ConfigDict(extra="forbid", strict=True)

    product_id: Annotated[Whole, Field(ge=1, le=2**31 - 1)]
    quantity: Annotated[Whole, Field(ge=1, le=10_000)]


class Cart(BaseModel):
    """The body of PUT /api/cart."""

    model_config = ConfigDict(extra="forbid", strict=True)

    items: Annotated[list[Item], Field(max_length=100)]


class NewSession(BaseModel):
    """The body of POST /api/sessions; it may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer_id: CustomerId | None = None
