"""The books of the shop: what the database itself says of orders and stock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buyers import Tally
    from rig import World


def words_of(shop: World, text: str) -> list[str]:
    """The command line of a query, to be run on the shop's host."""
    secret = shop.state / f"shop@{shop.host}" / "secrets" / "postgres-password"
    words = ["psql", "-h", "10.0.0.60", "-U", "postgres", "-d", "shop", "-Atc", text]
    return ["env", f"PGPASSWORD={secret.read_text()}", *words]


def query(shop: World, text: str) -> list[list[str]]:
    """Rows of a query, asked of the database without our own code."""
    out = shop.on_host(*words_of(shop, text)).ok().out
    return [line.split("|") for line in out.splitlines()]


def restock(shop: World) -> None:
    """More than any load can order of what load.py orders."""
    query(shop, "UPDATE products SET stock = 1000000 WHERE id = 4")


def stock_of(shop: World) -> dict[int, int]:
    return {
        int(number): int(left) for number, left in query(shop, "SELECT id, stock FROM products")
    }


@dataclass(frozen=True, slots=True)
class Books:
    """Stock and the highest order before; `errors` compares with what is there after."""

    stock: dict[int, int]
    last: int

    @classmethod
    def open(cls, shop: World) -> Books:
        return cls(
            stock_of(shop), int(query(shop, "SELECT coalesce(max(id), 0) FROM orders")[0][0])
        )

    def errors(self, shop: World, tally: Tally, *, others: bool = False) -> list[str]:
        """Every way in which orders acknowledged and orders kept differ; empty if none.

        `others`: besides the buyers somebody else has ordered, under keys of their own.
        """
        found: list[str] = []
        columns = "idempotency_key, id, product_id, quantity"
        rows = query(shop, f"SELECT {columns} FROM orders WHERE id > {self.last}")
        kept: dict[str, list[tuple[int, int, int]]] = {}
        for key, *rest in rows:
            number, product, quantity = map(int, rest)
            kept.setdefault(key, []).append((number, product, quantity))
        for key, copies in kept.items():
            if len(copies) > 1:
                found.append(f"{key} was made {len(copies)} times")
            if key in tally.refused:
                found.append(f"{key} was refused and yet made")
            if key not in tally.acknowledged and key not in tally.unanswered and not others:
                found.append(f"order {copies[0][0]} ({key}) was never asked for")
        for key, (number, wish) in tally.acknowledged.items():
            if (number, wish.product, wish.quantity) not in kept.get(key, []):
                found.append(f"{key} was acknowledged as order {number} and is not kept so")
        found += self._stock_errors(shop, kept)
        found += [f"{key} was never answered" for key in tally.unanswered]
        return found

    def _stock_errors(self, shop: World, kept: dict[str, list[tuple[int, int, int]]]) -> list[str]:
        sold = dict.fromkeys(self.stock, 0)
        for copies in kept.values():
            for _, product, quantity in copies:
                sold[product] += quantity
        found = []
        for product, left in stock_of(shop).items():
            if left < 0:
                found.append(f"stock of product {product} is {left}")
            if self.stock[product] - sold[product] != left:
                told = f"{self.stock[product]} - {sold[product]} sold"
                found.append(f"stock of product {product} is {left}, not {told}")
        return found
