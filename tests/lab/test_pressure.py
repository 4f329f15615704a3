"""Too much at once, a full disk, a lost state directory, a reboot: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from books import Books, query
from buyers import Buyers, Tally, wishes
from chaos import supervised_shop
from faults import serves, whole
from rig import World, eventually, names_of_namespaces, run, sh

from orchestrator import linux

FLOOD = 1500  # connections at once: more than nginx has places for
ROUNDS = 3


@pytest.fixture(scope="module")
def shop() -> Iterator[World]:
    with supervised_shop() as built:
        eventually(lambda: whole(built) and serves(built), within_s=60)
        yield built


def pids(shop: World) -> dict[str, int]:
    rows = shop.orchestrator("status", "--json").json()["nodes"]
    return {row["node"]: row["pid"] for row in rows if row["pid"]}


def order(shop: World, count: int, seed: int) -> Tally:
    books = Books.open(shop)
    todo = wishes(count, books.stock, random.Random(seed), f"p{seed}-{books.last}")
    buyers = Buyers(shop.host, todo, clients=8, seed=seed)
    buyers.allow(count)
    return buyers.join()


async def flood(host: str, port: int) -> Counter[str]:
    async def one() -> str:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(
                b"GET /api/products HTTP/1.1\r\nHost: x\r\nCache-Control: no-cache\r\n"
                b"Connection: close\r\n\r\n"
            )
            return (await reader.read()).split(b" ")[1].decode()
        except (OSError, IndexError):
            return "closed"
        finally:
            writer.close()

    async def bounded() -> str:
        try:
            async with asyncio.timeout(60):
                return await one()
        except TimeoutError:
            return "hangs"
        except OSError:
            return "refused"

    found: Counter[str] = Counter()
    for _ in range(ROUNDS):
        found.update(await asyncio.gather(*(bounded() for _ in range(FLOOD))))
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("host", "port"), [("10.0.0.20", 3000), ("127.0.0.1", 8080)])
def test_flood_is_served_or_shed_and_nobody_is_taken_for_hung(
    shop: World, host: str, port: int
) -> None:
    before, journal = pids(shop), shop.state / f"shop@{shop.host}" / "journal.jsonl"
    healings = journal.read_text().count('"command":"heal"')
    found: Counter[str] = Counter()

    def act() -> None:
        namespace = os.open(f"/run/netns/{shop.host}", os.O_RDONLY)
        linux.setns(namespace)
        os.close(namespace)
        found.update(asyncio.run(flood(host, port)))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert found.total() == FLOOD * ROUNDS
    assert found["hangs"] == 0, found
    assert found["200"] > 0, found
    eventually(lambda: whole(shop) and serves(shop), within_s=60)
    assert pids(shop) == before
    assert journal.read_text().count('"command":"heal"') == healings


@pytest.mark.timeout(300)
def test_reboot_in_the_middle_of_it_all_costs_no_order(shop: World) -> None:
    """State on disk, nothing in the kernel, /run empty, and a journal of another boot."""
    books = Books.open(shop)
    tally = order(shop, 100, 3)
    lab = f"shop@{shop.host}"
    supervisor = shop.orchestrator("status", "--json").json()["supervisor"]
    os.kill(supervisor, signal.SIGKILL)
    for service in shop.orchestrator("status", "--json").json()["nodes"]:
        name = service["node"].partition(":")[2]
        if service["node"].startswith("service:"):
            shop.kill(name)
    for name in names_of_namespaces():
        if name.startswith(f"{shop.host}."):
            run("ip", "netns", "delete", name).ok()
    shop.on_host("ip", "link", "delete", "br-app").ok()
    shop.on_host("iptables", "-t", "nat", "-F").ok()
    shop.on_host("iptables", "-F").ok()
    shop.on_host("sysctl", "-qw", "net.ipv4.ip_forward=0").ok()
    shutil.rmtree(shop.run_dir)
    sh(f"rm -rf /etc/netns/{shop.host}.*")
    journal = shop.state / lab / "journal.jsonl"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    journal.write_text(journal.read_text().replace(boot, "0" * 8 + boot[8:]))

    shop.orchestrator("up", "--supervise").ok()
    assert whole(shop)
    assert serves(shop)
    assert books.errors(shop, tally, others=True) == []


@pytest.mark.timeout(300)
def test_lost_run_directory_is_made_again(shop: World) -> None:
    books, before = Books.open(shop), pids(shop)
    tally = order(shop, 50, 4)
    shutil.rmtree(shop.run_dir / f"shop@{shop.host}")
    assert shop.orchestrator("status").code == 0
    shop.orchestrator("up", "--supervise").ok()
    assert serves(shop)
    now = pids(shop)
    # What runs needs none of it, but the edge: its log of requests lay there.
    assert now.pop("service:nginx-lb") != before.pop("service:nginx-lb")
    assert now == before
    for name in ("redis-cache", "api-gateway"):
        shop.kill(name)
    eventually(lambda: whole(shop) and serves(shop), within_s=60)
    assert books.errors(shop, tally, others=True) == []


@pytest.mark.timeout(300)
def test_lost_state_directory_is_begun_again(shop: World) -> None:
    """Data that was deleted is gone; what stands on it must not go on as if it were there."""
    state = shop.state / f"shop@{shop.host}"
    while state.exists() and run("rm", "-rf", state).code:
        pass  # PostgreSQL still writes into it
    for command in ("status", "events", "plan"):
        done = shop.orchestrator(command)
        assert done.code == 0, done.text
    eventually(lambda: whole(shop) and serves(shop), within_s=120)  # by the supervisor alone
    again = shop.orchestrator("up", "--supervise").ok()
    assert "already up" in again.out
    assert len(query(shop, "SELECT 1 FROM orders")) < 20  # a new database, not a ghost
    shop.orchestrator("down").ok()
    shop.orchestrator("up", "--supervise").ok()
    assert serves(shop)
