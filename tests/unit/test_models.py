"""Bodies and queries are taken as strictly everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SERVICES = Path(__file__).parents[2] / "services"
LAX_NUMBERS = ["1_0", "+1", "-1", " 1", "1 ", "1.0", "1e1", "", "٣", "0x1", "9" * 5000]
CUSTOMERS = ["", "a b", "a\nb", "a" * 65, "ä", 1.5, True, [], {}]


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a service's own namespace."""
    monkeypatch.syspath_prepend(SERVICES)
    for name in ("DATABASE_HOST", "DATABASE_USER", "REDIS_HOST"):
        monkeypatch.setenv(name, "x")


def refusal(model: Any, values: dict[str, Any]) -> int:
    """The status of the problem, 0 if there is none."""
    from shared.checking import from_values
    from shared.problem import Problem

    try:
        from_values(model, values)
    except Problem as problem:
        return problem.status
    return 0


@pytest.mark.parametrize("value", LAX_NUMBERS)
@pytest.mark.parametrize("field", ["limit", "cursor"])
def test_numbers_of_a_query_are_digits(field: str, value: str) -> None:
    from order.models import OrderQuery

    assert refusal(OrderQuery, {"customer_id": "a", field: value}) == 422
    assert refusal(OrderQuery, {"customer_id": "a", field: "7"}) == 0


@pytest.mark.parametrize("value", CUSTOMERS)
def test_customer_is_the_same_to_orders_and_sessions(value: Any) -> None:
    from gateway.models import NewSession
    from order.models import NewOrder

    order = {"product_id": 1, "quantity": 1}
    assert refusal(NewOrder, {**order, "customer_id": value}) == 422
    assert refusal(NewSession, {"customer_id": value}) == 422
    for good in ("a.b@c-d_1", 7):
        assert refusal(NewOrder, {**order, "customer_id": good}) == 0
        assert refusal(NewSession, {"customer_id": good}) == 0


@pytest.mark.parametrize(
    ("value", "said"), [("", "at least 1 character"), ("a" * 65, "at most 64 characters")]
)
def test_length_of_a_customer_is_told_in_characters(value: str, said: str) -> None:
    from gateway.models import NewSession
    from shared.checking import from_values
    from shared.problem import Problem

    with pytest.raises(Problem) as refused:
        from_values(NewSession, {"customer_id": value})
    assert said in str(refused.value.members)


@pytest.mark.parametrize(
    "item",
    [{"product_id": "1"}, {"quantity": True}, {"quantity": 1.5}, {"price": 1}, {"product_id": 0}],
)
def test_item_of_a_cart_is_taken_as_strictly_as_an_order(item: dict[str, Any]) -> None:
    from gateway.models import Cart
    from order.models import NewOrder

    body = {"product_id": 1, "quantity": 1, **item}
    assert refusal(NewOrder, {"customer_id": 1, **body}) == 422
    assert refusal(Cart, {"items": [body]}) == 422


def test_list_of_a_cart_is_a_list() -> None:
    from gateway.models import Cart

    assert refusal(Cart, {"items": ()}) == 422


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_empty_body_is_called_empty(body: bytes) -> None:
    from shared.bodies import unambiguous
    from shared.problem import Problem

    with pytest.raises(Problem, match="the body is empty"):
        unambiguous(body)
