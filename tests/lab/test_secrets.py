"""Secrets of the shop: rotated under load, ended whole after a crash, and each good for little."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest
from loading import load
from passwords import THROW_OUT, assert_only_these_hold, kept, psql
from rig import ROOT, SHOP, World, run


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
