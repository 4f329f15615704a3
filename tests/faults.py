"""Faults by name: what is done to a running shop. Shared by tests and bench."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from books import restock, words_of
from rig import Done, World, eventually

from orchestrator.kernel import nftables

SERVICES = {
    "nginx-lb": "nginx",
    "api-gateway": "gateway",
    "product-service": "product",
    "order-service": "order",
    "redis-cache": "redis",
    "postgres-db": "pg",
    "prometheus": "prom",
}
if TYPE_CHECKING:
    from orchestrator.app import App

# They live in Prometheus' namespace, with no link of their own.
EXPORTERS = ("nginx-exporter", "postgres-exporter", "redis-exporter")
PROGRAMS = (*SERVICES, *EXPORTERS)
Fault = Callable[[World], object]


def program(shop: World, service: str) -> int:
    rows = shop.orchestrator("status", "--json").json()["nodes"]
    return next(int(row["pid"]) for row in rows if row["node"] == f"service:{service}")


def kill_tree(service: str) -> Fault:
    return lambda shop: shop.kill(service)


def kill_program(service: str) -> Fault:
    return lambda shop: os.kill(program(shop, service), signal.SIGKILL)


def stop_program(service: str) -> Fault:
    """A hang: it stays, holds its sockets, and says nothing."""

    def act(shop: World) -> None:
        first = program(shop, service)
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in (first, *map(int, children)):
            os.kill(pid, signal.SIGSTOP)

    return act


def starve(service: str) -> Fault:
    """No process of the service may open one more file: it can accept no connection."""

    def act(shop: World) -> None:
        first = program(shop, service)
        starve_process(shop, first).ok()  # before its children are told: later ones inherit it
        for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split():
            done = starve_process(shop, int(pid))
            assert done.code == 0 or not Path(f"/proc/{pid}").exists(), done.err

    return act


def starve_process(shop: World, pid: int) -> Done:
    try:
        user = Path(f"/proc/{pid}").stat()
    except FileNotFoundError:
        return Done(1, "", f"{pid} has ended")
    # As its own user: others need CAP_SYS_RESOURCE, which containers do not have.
    words = ["setpriv", f"--reuid={user.st_uid}", f"--regid={user.st_gid}"]
    return shop.direct(*words, "--clear-groups", "prlimit", f"--pid={pid}", "--nofile=3:3")


def backends(shop: World, doing: str) -> list[int]:
    """PostgreSQL's processes for clients whose title ends so."""
    first = program(shop, "postgres-db")
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    titles = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    return [pid for pid, title in titles.items() if title.rstrip(" \0").endswith(doing)]


def stop_new_backend(shop: World) -> None:
    """One process of many, and one that was not there a moment ago."""
    words = shlex.join(words_of(shop, "SELECT pg_sleep(100)"))
    shop.on_host("bash", "-c", f"{words} >/dev/null 2>&1 &").ok()
    eventually(lambda: bool(backends(shop, "SELECT")))
    os.kill(backends(shop, "SELECT")[0], signal.SIGSTOP)


def on_host(*words: str) -> Fault:
    return lambda shop: shop.on_host(*words).ok()


def within(service: str, *words: str) -> Fault:
    return lambda shop: shop.inside(service, *words).ok()


def unmount(service: str) -> Fault:
    return lambda shop: shop.direct("umount", f"/run/netns/{shop.host}.{service}").ok()


def delete_guard(shop: World) -> None:
    """As `nft delete table bridge NAME` does it."""
    namespace = Path("/run/netns", shop.host)
    for name in nftables.tables(nftables.BRIDGE, namespace):
        body = nftables.named(nftables.TABLE_NAME, name)
        kind, flags = nftables.DELETE_TABLE, nftables.NLM_F_ACK
        nftables.commit([nftables.message(kind, flags, nftables.BRIDGE, body)], namespace)


FAULTS: dict[str, Fault] = {
    **{f"{name} killed with all its processes": kill_tree(name) for name in PROGRAMS},
    **{f"{name}: its program killed": kill_program(name) for name in PROGRAMS},
    **{f"{name} hangs (SIGSTOP)": stop_program(name) for name in PROGRAMS},
    **{f"{name}: out of file descriptors": starve(name) for name in SERVICES},
    **{
        f"bridge's end of {name}'s veth set down": on_host(
            "ip", "link", "set", f"veth-{short}-br", "down"
        )
        for name, short in SERVICES.items()
    },
    **{
        f"inner end of {name}'s veth set down": within(
            name, "ip", "link", "set", f"veth-{short}", "down"
        )
        for name, short in SERVICES.items()
    },
    "postgres-db: a new backend hangs (SIGSTOP)": stop_new_backend,
    "veth of redis-cache deleted": on_host("ip", "link", "delete", "veth-redis-br"),
    "address of postgres-db removed": within(
        "postgres-db", "ip", "addr", "del", "10.0.0.60/16", "dev", "veth-pg"
    ),
    "default route of api-gateway removed": within("api-gateway", "ip", "route", "del", "default"),
    "route of redis-cache to its network removed": within(
        "redis-cache", "ip", "route", "del", "10.0.0.0/16"
    ),
    "the host's route to the network removed": on_host(
        "ip", "route", "del", "10.0.0.0/16", "dev", "br-app"
    ),
    "address of the bridge removed": on_host("ip", "addr", "del", "10.0.0.1/16", "dev", "br-app"),
    "bridge set down": on_host("ip", "link", "set", "br-app", "down"),
    "bridge deleted": on_host("ip", "link", "delete", "br-app"),
    "port cut off from the bridge (partition)": on_host(
        "ip", "link", "set", "veth-product-br", "nomaster"
    ),
    "name of order-service's namespace unmounted": unmount("order-service"),
    "nat table flushed": on_host("iptables", "-t", "nat", "-F"),
    "rules of FORWARD flushed": on_host("iptables", "-F", "FORWARD"),
    "policy of FORWARD turned to DROP": on_host(
        "bash", "-ec", "iptables -P FORWARD ACCEPT; iptables -P FORWARD DROP"
    ),
    "a rule that drops all put first in FORWARD": on_host(
        "iptables", "-I", "FORWARD", "1", "-j", "DROP"
    ),
    "policy of redis-cache flushed": within("redis-cache", "iptables", "-F"),
    "postgres-db's callers shut out of its policy": within(
        "postgres-db",
        *("bash", "-ec", "iptables-save | grep -v -e ' from-' | iptables-restore"),
    ),
    "table that guards the bridge's ports deleted": delete_guard,
    "ip_forward turned off": on_host("sysctl", "-qw", "net.ipv4.ip_forward=0"),
    "route_localnet turned off": on_host("sysctl", "-qw", "net.ipv4.conf.br-app.route_localnet=0"),
}


def while_healed(first: Fault, second: Fault) -> Fault:
    """The second strikes when the healing of the first has just begun."""

    def act(shop: World) -> None:
        journal = shop.state / f"shop@{shop.host}" / "journal.jsonl"

        def healings() -> int:
            return journal.read_text().count('"command":"heal"')

        before = healings()
        first(shop)
        eventually(lambda: healings() > before)
        second(shop)

    return act


DOUBLE: dict[str, Fault] = {
    "order-service killed while postgres-db is healed": while_healed(
        kill_tree("postgres-db"), kill_tree("order-service")
    ),
    "redis-cache killed while product-service is healed": while_healed(
        kill_tree("product-service"), kill_tree("redis-cache")
    ),
    "veth of redis-cache deleted while api-gateway is healed": while_healed(
        kill_tree("api-gateway"), on_host("ip", "link", "delete", "veth-redis-br")
    ),
}


def serves(shop: World) -> bool:
    """An order by localhost and one read from outside, both through to the database."""
    body = '{"customer_id":"fault","product_id":4,"quantity":1}'
    order = shop.curl(
        "http://localhost:8080/api/orders", "-f", "-m", "2", "-d", body,
        "-H", "Content-Type: application/json",
    )  # fmt: skip
    if order.code != 0:
        return False
    read = shop.curl(
        "http://203.0.113.2:8080/api/products/1", "-f", "-m", "2", "-H", "Cache-Control: no-cache",
        where="outside",
    )  # fmt: skip
    return read.code == 0


def recovery_s(shop: World, fault: Fault, *, deadline_s: float = 60.0) -> float:
    """Seconds from the fault until everything is as wanted and serves again."""
    restock(shop)  # each look whether it serves is an order
    fault(shop)
    begun = time.monotonic()
    while time.monotonic() < begun + deadline_s:
        if whole(shop) and serves(shop):
            return time.monotonic() - begun
        time.sleep(0.02)
    raise AssertionError(f"not recovered: {shop.orchestrator('status', '--all').out}")


def whole(shop: World) -> bool:
    """Whether `plan` finds nothing to do, asked in a process that stays: a start costs 0.5 s."""
    return _observer(shop).ask()


class Observer:
    """A process on the shop's host that says, when asked, whether all is as wanted."""

    def __init__(self, shop: World) -> None:
        options = shop.words("status")[4:]
        code = "import sys; from faults import observe; observe(sys.argv[1:])"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )

    def ask(self) -> bool:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return self._process.stdout.readline() == "yes\n"

    def close(self) -> None:
        self._process.communicate()


_observers: dict[str, Observer] = {}


def _observer(shop: World) -> Observer:
    if shop.host not in _observers:
        _observers[shop.host] = Observer(shop)
    return _observers[shop.host]


def close_observer(shop: World) -> None:
    if found := _observers.pop(shop.host, None):
        found.close()


@contextlib.contextmanager
def under_supervision(world: World) -> Iterator[World]:
    """The world's shop, up with its supervisor; afterwards all of it is gone, the world too."""
    try:
        world.orchestrator("up", "--supervise").ok()
        yield world
    finally:
        close_observer(world)
        world.orchestrator("down", "--volumes")
        world.remove()


def programs(app: App) -> Iterator[list[int]]:
    """Pids of what each service runs."""
    from orchestrator.processes import vitals
    from orchestrator.processes.service import Service

    for node in app.nodes.values():
        if isinstance(node.resource, Service):
            yield vitals.programs(node.resource.program.running())


def observe(options: list[str]) -> None:
    """The observer's own process."""
    import asyncio

    from orchestrator.commands.target import Target
    from orchestrator.processes import vitals

    given = dict(zip(options[::2], options[1::2], strict=True))
    target = Target(
        Path(given["--stack"]),
        given["--host-netns"],
        Path(given["--state-dir"]),
        Path(given["--run-dir"]),
    )
    app = target.enter()
    for _ in sys.stdin:
        broken = asyncio.run(app.broken(app.nodes))
        bad = (
            broken or asyncio.run(app.silent(app.nodes)) or any(map(vitals.stopped, programs(app)))
        )
        sys.stdout.write("no\n" if bad else "yes\n")
        sys.stdout.flush()
