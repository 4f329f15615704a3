"""Orders as clients send them and ask for them; loaded when it is needed, see checking.py."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from shared.fields import Whole


def _as_text(value: Any) -> Any:
    """Customers are numbers to some clients and names to others; to us they are text."""
    return str(value) if type(value) is int else value


CustomerId = Annotated[
    str,
    BeforeValidator(_as_text),
    StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.@-]+$"),
]


class NewOrder(BaseModel):
    """The body of POST /orders."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer_id: CustomerId
    product_id: Annotated[Whole, Field(ge=1, le=2**31 - 1)]
    quantity: Annotated[Whole, Field(ge=1, le=10_000)]
    total_price: Annotated[Decimal, Field(strict=False, ge=0, le=10**10)] | None = None


class OrderQuery(BaseModel):
    """`?customer_id=…&limit=…&cursor=…`, newest first; cursor is the last order seen."""

    model_config = ConfigDict(extra="forbid")

    customer_id: CustomerId
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
