"""Orders as clients send them and ask for them; loaded when it is needed, see checking.py."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from shared.fields import CustomerId, Digits, Whole

# PostgreSQL has no numbers of 17,000 decimals (8.1.2), and nothing costs one. The digits of a zero
# are not counted, however many decimals it has: every zero is the same.
Price = Annotated[
    Decimal,
    Field(strict=False, ge=0, le=10**10, max_digits=30),
    AfterValidator(lambda price: price or Decimal(0)),
]


class NewOrder(BaseModel):
    """The body of POST /orders."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer_id: CustomerId
    product_id: Annotated[Whole, Field(ge=1, le=2**31 - 1)]
    quantity: Annotated[Whole, Field(ge=1, le=10_000)]
    total_price: Price | None = None


class OrderQuery(BaseModel):
    """`?customer_id=…&limit=…&cursor=…`, newest first; cursor is the last order seen."""

    model_config = ConfigDict(extra="forbid")

    customer_id: CustomerId
    limit: Annotated[Digits, Field(ge=1, le=100)] = 20
    cursor: Annotated[Digits, Field(ge=1, le=2**63 - 1)] | None = None
