"""The audit: passes on the shop, and fails at just that which somebody broke."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from books import query
from faults import SERVICES, program, stop_program
from rig import ROOT, eventually, run

from orchestrator.processes import procfs

if TYPE_CHECKING:
    from rig import World


def failures(shop: World) -> set[tuple[str, str]]:
    """Check and subject of what failed; the exit code says the same."""
    done = shop.orchestrator("audit", "--json")
    found = done.json_of_failure()
    failed = {(f["check"], f["subject"]) for f in found["findings"] if f["verdict"] == "fail"}
    assert done.code == (1 if failed else 0)
    assert found["passed"] == (not failed)
    return failed


def test_passes_on_the_default_stack_with_evidence_for_each(shop: World) -> None:
    assert failures(shop) == set()
    done = shop.orchestrator("audit", "--all").ok()
    assert done.out.count("PASS  ") == 17
    assert "CapBnd" in done.out
    assert "SELECT on products (id, price, stock)" in done.out
    assert done.out.endswith(", 0 failed\n")


@contextlib.contextmanager
def readable_secret(shop: World) -> Iterator[None]:
    path = shop.state / f"shop@{shop.host}" / "secrets" / "orders-password"
    path.chmod(0o644)
    yield
    path.chmod(0o600)


@contextlib.contextmanager
def secret_of_another(shop: World) -> Iterator[None]:
    node = shop.run_dir / f"shop@{shop.host}" / "nodes/product-service"
    files = next(node.glob("*-secrets"))
    (files / "orders-password").write_text("x")
    yield
    (files / "orders-password").unlink()


@contextlib.contextmanager
def open_data(shop: World) -> Iterator[None]:
    path = shop.state / f"shop@{shop.host}" / "data/redis-cache/data"
    path.chmod(0o755)
    yield
    path.chmod(0o700)


@contextlib.contextmanager
def limit_taken_away(shop: World) -> Iterator[None]:
    name = f"**/orchestrator/shop@{shop.host}/service:order-service/pids.max"
    [path] = Path("/sys/fs/cgroup").glob(name)
    path.write_text("max")
    yield
    path.write_text("512")


@contextlib.contextmanager
def grant(shop: World) -> Iterator[None]:
    query(shop, "GRANT UPDATE (price) ON products TO orders")
    yield
    query(shop, "REVOKE UPDATE (price) ON products FROM orders")


@contextlib.contextmanager
def superuser(shop: World) -> Iterator[None]:
    query(shop, "ALTER ROLE product CREATEDB")
    yield
    query(shop, "ALTER ROLE product NOCREATEDB")


@contextlib.contextmanager
def rights_for_everybody(shop: World) -> Iterator[None]:
    query(shop, "GRANT SELECT ON orders TO PUBLIC")
    yield
    query(shop, "REVOKE SELECT ON orders FROM PUBLIC")


def acl(shop: World, *words: str) -> None:
    secret = shop.state / f"shop@{shop.host}" / "secrets" / "redis-admin-password"
    entry = ["redis-cli", "-h", "10.0.0.50", "--user", "admin", "--no-auth-warning", "ACL"]
    shop.inside("redis-cache", "env", f"REDISCLI_AUTH={secret.read_text()}", *entry, *words).ok()


@contextlib.contextmanager
def command_for_gateway(shop: World) -> Iterator[None]:
    acl(shop, "SETUSER", "gateway", "+keys")
    yield
    acl(shop, "SETUSER", "gateway", "-keys")


@contextlib.contextmanager
def user_of_nobody(shop: World) -> Iterator[None]:
    acl(shop, "SETUSER", "stranger", "on", "nopass", "+@all")
    yield
    acl(shop, "DELUSER", "stranger")


@contextlib.contextmanager
def port_of_a_stranger(shop: World) -> Iterator[None]:
    words = ["ip", "netns", "exec", f"{shop.host}.redis-cache", "python3", "-m", "http.server"]
    stranger = subprocess.Popen([*words, "4444"], stderr=subprocess.DEVNULL)
    sockets = ["ss", "-Hltn", "sport = :4444"]
    eventually(lambda: "4444" in shop.inside("redis-cache", *sockets).out)
    yield
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize(
    ("broken", "check", "subject"),
    [
        (readable_secret, "1.1", "host"),
        (open_data, "1.2", "redis-cache"),
        (secret_of_another, "2.8", "product-service"),
        (limit_taken_away, "2.11", "order-service"),
        (port_of_a_stranger, "2.12", "redis-cache"),
        (grant, "3.1", "postgres-db/orders"),
        (superuser, "3.1", "postgres-db/product"),
        (rights_for_everybody, "3.1", "postgres-db/public"),
        (command_for_gateway, "3.3", "redis-cache/gateway"),
        (user_of_nobody, "3.3", "redis-cache/stranger"),
    ],
)
def test_fails_at_just_what_is_broken(
    shop: World,
    broken: Callable[[World], contextlib.AbstractContextManager[None]],
    check: str,
    subject: str,
) -> None:
    with broken(shop):
        assert failures(shop) == {(check, subject)}
    assert failures(shop) == set()


@contextlib.contextmanager
def stopped(shop: World, service: str) -> Iterator[None]:
    stop_program(service)(shop)
    yield
    first = program(shop, service)
    for pid in (first, *procfs.descendants(first)):
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def cut_off(shop: World, service: str) -> Iterator[None]:
    link = ["ip", "link", "set", f"veth-{SERVICES[service]}-br"]
    shop.on_host(*link, "down").ok()
    yield
    shop.on_host(*link, "up").ok()
    eventually(lambda: shop.inside(service, "ping", "-c1", "-W1", "10.0.0.1").code == 0)


@contextlib.contextmanager
def lost(shop: World, *places: Path) -> Iterator[None]:
    texts = {path: path.read_text() for path in places}
    for path in places:
        path.unlink()
    yield
    for path, text in texts.items():
        path.write_text(text)
        path.chmod(0o600)


OF_POSTGRES = {("3.1", "postgres-db"), ("3.2", "postgres-db")}
OF_REDIS = {("3.3", "redis-cache")}


@pytest.mark.parametrize(
    ("broken", "service", "failed"),
    [
        (stopped, "postgres-db", OF_POSTGRES),
        (stopped, "redis-cache", OF_REDIS),
        (cut_off, "postgres-db", OF_POSTGRES),
        (cut_off, "redis-cache", OF_REDIS),
    ],
)
def test_server_that_cannot_be_asked_is_named_with_the_reason(
    shop: World,
    broken: Callable[[World, str], contextlib.AbstractContextManager[None]],
    service: str,
    failed: set[tuple[str, str]],
) -> None:
    """And everything else is looked at as ever."""
    with broken(shop, service):
        assert failures(shop) == failed
        done = shop.orchestrator("audit")
    reason = "(no answer within 5 s|.*Errno|.*rror \\d)"
    said = rf"{service}: not known: cannot ask {service}: {reason}"
    assert len(re.findall(said, done.out)) == len(failed), done.text
    assert done.out.endswith(f", {len(failed)} failed\n")


def test_secret_that_is_gone_is_named_and_its_copy_serves(shop: World) -> None:
    lab = f"shop@{shop.host}/secrets/redis-admin-password"
    kept, copy = shop.state / lab, shop.run_dir / lab
    with lost(shop, kept):
        assert failures(shop) == {("1.1", "host")}
        said = shop.orchestrator("audit").out
        assert "redis-admin-password is gone: `orchestrator up` brings it back" in said
    with lost(shop, kept, copy):
        assert failures(shop) == {("1.1", "host"), ("2.9", "host"), *OF_REDIS}
        said = shop.orchestrator("audit").out
        assert "redis-admin-password is gone: `orchestrator up` mends it" in said
        assert "cannot ask redis-cache: its secret redis-admin-password is gone" in said
    assert failures(shop) == set()


TINY = """
name: tiny
networks: {br-tiny: {address: 10.0.0.1/24}}
services:
  one: {networks: {br-tiny: 10.0.0.10}, command: [sleep, "1000"]}
  two: {networks: {br-tiny: 10.0.0.20}, command: [sleep, "1000"]}
"""


@pytest.mark.parametrize(
    ("word", "instead", "failed"),
    [
        ("--bounding-set=-all", "--bounding-set=-all,+net_raw", {"2.2"}),
        ("--seccomp", "--sync-fd", {"2.4"}),  # an option that takes the descriptor and its number
        ("--unshare-ipc", "", {"2.5"}),
        ("--ro-bind-try /usr", "--bind /usr", {"2.6"}),
        ("--tmpfs /run", "--tmpfs /run --ro-bind /sys /sys", {"2.7"}),
    ],
)
def test_fails_at_a_service_that_was_started_with_less(
    world: World, write_stack: Callable[..., Path], word: str, instead: str, failed: set[str]
) -> None:
    """Started by our own code, but for one word of the sandbox."""
    stack = write_stack(TINY)
    words = ["one", word, instead, world.host, world.state, world.run_dir, stack]
    run(sys.executable, ROOT / "tests" / "careless.py", *words).ok()
    found = world.orchestrator("audit", "--json", stack=stack).json_of_failure()["findings"]
    wrong = {(f["check"], f["subject"]) for f in found if f["verdict"] == "fail"}
    assert wrong == {(check, "one") for check in failed}
