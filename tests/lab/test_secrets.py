"""Secrets of the shop: rotated under load, ended whole after a crash, and each good for little."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from books import query
from loading import load
from rig import ROOT, SHOP, World, run

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


def test_rotation_under_load_loses_no_request_and_no_session(shop: World) -> None:
    old = kept(shop)
    made = shop.curl("http://localhost:8080/api/sessions", "-X", "POST").json()
    with load(shop) as running:
        shop.orchestrator("secrets", "rotate").ok()
        codes = running.end()["codes"]
    assert codes.keys() == {"200", "201"}
    assert_only_these_hold(shop, old)
    cart = ["-H", f"X-Session-Id: {made['session_id']}"]
    assert shop.curl("http://localhost:8080/api/cart", *cart).json()["items"] == []
    assert "nothing was changed" in shop.orchestrator("up").ok().out


def test_one_secret_alone(shop: World) -> None:
    old = kept(shop)
    twice = ["orders-password"] * 2
    assert "rotated 1 secret in" in shop.orchestrator("secrets", "rotate", *twice).ok().out
    new = kept(shop)
    assert [name for name in new if new[name] != old[name]] == ["orders-password"]
    assert psql(shop, "orders", new["orders-password"], "SELECT 1")[0] == 0
    assert shop.orchestrator("secrets", "rotate", "../postgres-password").code == 2
    assert kept(shop) == new


def test_only_who_has_to_learn_a_secret_must_be_up(shop: World) -> None:
    old = kept(shop)
    shop.kill("prometheus")
    try:
        shop.orchestrator("secrets", "rotate", "redis-order-password").ok()
        new = kept(shop)
        shop.kill("redis-cache")
        refused = shop.orchestrator("secrets", "rotate", "redis-order-password")
    finally:
        shop.orchestrator("up").ok()
    assert [name for name in new if new[name] != old[name]] == ["redis-order-password"]
    assert refused.code == 1
    assert "cannot rotate secrets: service:redis-cache is not as wanted" in refused.err
    assert kept(shop) == new


@pytest.mark.parametrize(("at", "then"), [(0, "rotate"), (6, "up"), (12, "rotate"), (17, "up")])
def test_rotation_that_is_killed_is_ended_by_the_next_command(
    shop: World, at: int, then: str
) -> None:
    old = kept(shop)
    words = [shop.host, shop.state, shop.run_dir, shop.stack]
    killed = run(sys.executable, ROOT / "tests" / "crash.py", "rotate", str(at), *words)
    assert killed.code == -signal.SIGKILL
    # It serves meanwhile, also those who have to connect anew.
    secrets = kept(shop)
    assert 0 in {
        psql(shop, "postgres", secrets[name], THROW_OUT)[0]
        for name in ("postgres-password", "postgres-password.next")
        if name in secrets
    }
    no_cache = ["-H", "Cache-Control: no-cache"]
    shop.curl("http://localhost:8080/api/products?limit=3", "-f", *no_cache).ok()

    shop.orchestrator(*(["secrets", "rotate"] if then == "rotate" else ["up"])).ok()

    assert_only_these_hold(shop, old)


def test_list_tells_names_and_readers_and_no_secret(shop: World) -> None:
    out = shop.orchestrator("secrets", "list").ok().out
    assert all(f"\n{name} " in f"\n{out}" for name in kept(shop))
    assert not [text for text in kept(shop).values() if text in out]
    rows = shop.orchestrator("secrets", "list", "--json").json()
    assert {row["mode"] for row in rows} == {"0600"}
    [row] = [row for row in rows if row["secret"] == "product-password"]
    assert row["readers"] == ["product-service", "migrate"]
    [row] = [row for row in rows if row["secret"] == "redis-monitoring-password"]
    assert row["readers"] == ["redis-exporter", "redis-accounts"]  # the first through a template
    assert out.splitlines()[0].split() == ["secret", "made", "mode", "read", "by"]


PRODUCT_MAY_NOT = [
    "SELECT 1 FROM orders",
    "SELECT 1 FROM schema_migrations",
    "UPDATE products SET stock = 0",
    "DELETE FROM products",
    "INSERT INTO products (sku) VALUES ('x')",
    "CREATE TABLE mine (x integer)",
    "CREATE TEMP TABLE mine (x integer)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "ALTER ROLE product SUPERUSER",
    "SET ROLE postgres",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_read_file('/run/secrets/postgres-password')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
]
ORDERS_MAY_NOT = [
    "SELECT name FROM products",
    "UPDATE products SET price = 0",
    "UPDATE orders SET total_price = 0",
    "DELETE FROM orders",
    "TRUNCATE orders",
    "INSERT INTO orders (customer_id, status) VALUES ('x', 'paid')",
    "ALTER TABLE orders ADD COLUMN mine text",
    "CREATE TEMP TABLE mine (x integer)",
    "SELECT 1 FROM schema_migrations",
]


@pytest.mark.parametrize(
    ("role", "line"),
    [
        *(("product", line) for line in PRODUCT_MAY_NOT),
        *(("orders", line) for line in ORDERS_MAY_NOT),
    ],
)
def test_roles_of_postgres_may_no_more_than_they_need(shop: World, role: str, line: str) -> None:
    code, text = psql(shop, role, kept(shop)[f"{role}-password"], line)
    assert code != 0
    assert "permission denied" in text or "must be" in text, text


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("gateway", ["GET", "products:version"]),
        ("gateway", ["SET", "products:version", "1"]),
        ("product", ["GETEX", "session:x"]),
        ("product", ["SET", "session:x", "1"]),
        ("product", ["SET", "products:version", "1"]),
        ("order", ["GET", "products:version"]),
        ("order", ["INCRBY", "session:x", "1"]),
        *(
            (user, words)
            for user in ("gateway", "product", "order")
            for words in (
                ["KEYS", "*"],
                ["FLUSHALL"],
                ["CONFIG", "GET", "*"],
                ["ACL", "LIST"],
                ["SHUTDOWN"],
                ["EVAL", "return 1", "0"],
                ["MONITOR"],
            )
        ),
    ],
)
def test_users_of_redis_may_no_more_than_they_need(
    shop: World, user: str, words: list[str]
) -> None:
    entry = ["redis-cli", "-h", "10.0.0.50", "--user", user, "--no-auth-warning", *words]
    secret = f"REDISCLI_AUTH={kept(shop)[f'redis-{user}-password']}"
    assert shop.inside("redis-cache", "env", secret, *entry).text.startswith("NOPERM")


def test_nobody_enters_redis_without_an_account(shop: World) -> None:
    for words in (["ping"], ["--user", "default", "--pass", "", "ping"]):
        out = shop.inside("redis-cache", "redis-cli", "-h", "10.0.0.50", *words).text
        assert "NOAUTH" in out or "WRONGPASS" in out


def test_services_ask_redis_for_nothing_that_is_refused(shop: World) -> None:
    """The server keeps a log of refusals; the platform's own requests leave it empty."""
    admin = f"REDISCLI_AUTH={kept(shop)['redis-admin-password']}"
    entry = ["redis-cli", "-h", "10.0.0.50", "--user", "admin", "--no-auth-warning", "ACL", "LOG"]
    shop.inside("redis-cache", "env", admin, *entry, "RESET").ok()
    shop.orchestrator("replay", "services").ok()
    shop.orchestrator("verify").ok()
    made = shop.curl("http://localhost:8080/api/sessions", "-X", "POST").json()
    cart = ["-H", f"X-Session-Id: {made['session_id']}", "-H", "Content-Type: application/json"]
    put = [*cart, "-X", "PUT", "-d", '{"items": []}']
    shop.curl("http://localhost:8080/api/cart", *put, "-f").ok()
    denied = shop.inside("redis-cache", "env", admin, *entry).out.split()
    assert denied == [], " ".join(denied)


ODD = """'it''s \\ $secret "$`:a':\\'b' $$1"""  # what quoting of some kind would change


def test_any_password_enters_and_a_changed_migration_is_refused(
    world: World, tmp_path: Path
) -> None:
    stack = shutil.copytree(SHOP.parent, tmp_path / "services") / SHOP.name
    secrets = world.state / f"shop@{world.host}" / "secrets"
    secrets.mkdir(parents=True, mode=0o700)
    for name in ("product-password", "orders-password", "postgres-password"):
        (secrets / name).write_text(ODD + name)
    try:
        world.orchestrator("up", stack=stack).ok()  # a request reaches the database

        with (stack.parent / "database/migrations/001_catalogue.sql").open("a") as file:
            file.write("-- changed\n")
        refused = world.orchestrator("replay", "migrate", stack=stack)
        assert refused.code == 1
        assert "001_catalogue.sql was changed after it had been applied" in refused.err
    finally:
        world.orchestrator("down", "--volumes", stack=stack).ok()


def delete_secrets(world: World) -> None:
    shutil.rmtree(world.state / f"shop@{world.host}" / "secrets")


def delete_one(world: World) -> None:
    (world.state / f"shop@{world.host}" / "secrets" / "orders-password").unlink()


def delete_state(world: World) -> None:
    shutil.rmtree(world.state)


@pytest.mark.parametrize("delete", [delete_state, delete_secrets, delete_one])
def test_secret_that_somebody_deleted_comes_back_as_it_was(
    world: World, delete: Callable[[World], None]
) -> None:
    """By `up`, also where the first try is killed; nobody watches the lab."""
    try:
        world.orchestrator("up").ok()
        old = kept(world)
        delete(world)
        words = [world.host, world.state, world.run_dir, SHOP]
        killed = run(sys.executable, ROOT / "tests" / "crash.py", "up", "0", *words)
        assert killed.code == -signal.SIGKILL
        world.orchestrator("up").ok()
        assert kept(world) == old
        delete_one(world)
        world.orchestrator("replay", "order-service").ok()
        assert kept(world) == old
        assert world.orchestrator("verify").code == 0
    finally:
        world.orchestrator("down", "--volumes").ok()


@pytest.mark.parametrize("at", [10, 14])
def test_rotation_that_was_killed_and_lost_its_secrets_is_ended(shop: World, at: int) -> None:
    """Its servers take the next ones already, or only those."""
    old = kept(shop)
    words = [shop.host, shop.state, shop.run_dir, shop.stack]
    killed = run(sys.executable, ROOT / "tests" / "crash.py", "rotate", str(at), *words)
    assert killed.code == -signal.SIGKILL
    delete_secrets(shop)
    shop.orchestrator("up").ok()
    assert_only_these_hold(shop, old)


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize(
    "lost",
    [{"orders-password", "redis-gateway-password"}, {"postgres-password"}, set()],
    ids=["those of clients", "the superuser's", "all"],
)
def test_password_that_was_lost_with_its_copy_is_made_and_handed_on(
    world: World, lost: set[str], is_up: bool
) -> None:
    """Whatever the database has been told stays."""
    order = {"customer_id": "kept", "product_id": 1, "quantity": 1}
    try:
        world.orchestrator("up").ok()
        body = ["-H", "Content-Type: application/json", "-d", json.dumps(order)]
        made = world.curl("http://localhost:8080/api/orders", *body).ok().json()
        old = kept(world)
        lost = lost or {*old}
        if not is_up:
            world.orchestrator("down").ok()
        for place in (world.state, world.run_dir):
            for name in lost:
                (place / f"shop@{world.host}" / "secrets" / name).unlink(missing_ok=not is_up)
        said = world.orchestrator("up").ok()
        assert all(f"the secret {name} was not there" in said.err for name in lost)
        new = kept(world)
        assert {name for name, text in new.items() if text != old[name]} == lost
        psql(world, "postgres", new["postgres-password"], THROW_OUT)  # all have to enter anew
        assert world.orchestrator("verify").code == 0
        found = world.curl(f"http://localhost:8080/api/orders/{made['order_id']}").json()
        assert found["customer_id"] == "kept"
        for role, name in ROLES.items():
            assert (psql(world, role, old[name], "SELECT 1")[0] == 0) is (name not in lost)
        is_lost = "redis-gateway-password" in lost
        assert may_enter_redis(world, "gateway", old["redis-gateway-password"]) is not is_lost
        assert "nothing was changed" in world.orchestrator("up").ok().out
    finally:
        world.orchestrator("down", "--volumes").ok()
