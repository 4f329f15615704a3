"""What opens the shop's servers, and for whom."""

from __future__ import annotations

from books import query
from rig import World

REDIS = {"gateway", "product", "order", "monitoring", "admin"}
ROLES = {
    "product": "product-password",
    "orders": "orders-password",
    "postgres": "postgres-password",
}

THROW_OUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('product', 'orders')"
)


def kept(shop: World) -> dict[str, str]:
    """What lies in the directory of secrets."""
    directory = shop.state / f"shop@{shop.host}" / "secrets"
    return {path.name: path.read_text() for path in directory.iterdir()}


def may_enter_redis(shop: World, user: str, password: str) -> bool:
    words = ["redis-cli", "-h", "10.0.0.50", "--user", user, "--no-auth-warning"]
    done = shop.inside("redis-cache", "env", f"REDISCLI_AUTH={password}", *words, "ping")
    return "WRONGPASS" not in done.text and "NOAUTH" not in done.text


def psql(shop: World, role: str, password: str, line: str) -> tuple[int, str]:
    words = ["psql", "-h", "10.0.0.60", "-U", role, "-d", "shop", "-Atc", line]
    done = shop.inside("postgres-db", "env", f"PGPASSWORD={password}", *words)
    return done.code, done.text


def assert_only_these_hold(shop: World, old: dict[str, str]) -> None:
    """Every account has a new password, the old one opens nothing, and services have the new."""
    new = kept(shop)
    assert new.keys() == old.keys()
    assert not set(new.values()) & set(old.values())
    rendered = shop.state / f"shop@{shop.host}" / "rendered.json"
    assert new["redis-monitoring-password"] in rendered.read_text()
    assert not [name for name, text in old.items() if text in rendered.read_text()]
    for user in REDIS:
        name = f"redis-{user}-password"
        assert may_enter_redis(shop, user, new[name]), user
        assert not may_enter_redis(shop, user, old[name]), user
    for role, name in ROLES.items():
        assert psql(shop, role, new[name], "SELECT 1")[0] == 0, role
        assert psql(shop, role, old[name], "SELECT 1")[0] != 0, role
    # Whoever has to connect anew can.
    query(
        shop, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> 'postgres'"
    )
    for path in ("/api/products?limit=7", "/api/orders/1"):
        headers = ["-H", "Cache-Control: no-cache"]
        assert shop.curl(
            f"http://localhost:8080{path}", *headers, "-o", "/dev/null", "-w", "%{http_code}"
        ).out in ("200", "404")
    assert set(shop.node_states().values()) == {"ready"}
