"""The kernel's view of the real shop under load, against what other tools say of it."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import SERVICES, program
from rig import World, eventually, run
from schedstat import Times, grown_s, threads
from view import Look, Viewer, load

from orchestrator.kernel import sockdiag
from orchestrator.kernel.sockdiag import State
from orchestrator.linux import inside
from orchestrator.view import sampler

ROUNDING_S = 1e-6
RULE = re.compile(r"\s*(\d+)\s+(\d+) .*/\* orchestrator:\S+ (\S+) \*/")
ADDRESSES = {"product-service": "10.0.0.30", "postgres-db": "10.0.0.60"}


@pytest.fixture
def viewer(shop: World) -> Iterator[Viewer]:
    found = Viewer(shop)
    found.look()  # totals begin here
    try:
        yield found
    finally:
        found.close()


# -- what others say ---------------------------------------------------------------------


def links(shop: World) -> dict[str, dict[str, int]]:
    """By service: what `ip -s link` shows, inside."""
    found = {}
    for service, short in SERVICES.items():
        words = ("ip", "-n", f"{shop.host}.{service}", "-s", "-j", "link", "show", f"veth-{short}")
        [link] = run(*words).json()
        way = {"receive": link["stats64"]["rx"], "transmit": link["stats64"]["tx"]}
        found[service] = {
            f"{name}_{what}": each[what] for name, each in way.items() for what in each
        }
    return found


def rules(shop: World, table: str) -> dict[str, tuple[int, int]]:
    """By name: packets and bytes that `iptables -vnxL` shows of our rules in the table."""
    lines = shop.on_host("iptables", "-t", table, "-vnxL").ok().out.splitlines()
    matches = [match for line in lines if (match := RULE.match(line))]
    return {match[3]: (int(match[1]), int(match[2])) for match in matches}


def sockets(shop: World, service: str, *words: str) -> list[str]:
    """Established ones, one line each."""
    out = shop.inside(service, "ss", "-tiOHn", "state", "established", *words).ok().out
    return out.splitlines()


def ends(shop: World, client: str, server: str) -> list[str]:
    """Lines of ss for both ends of the edge's connections."""
    return [
        *sockets(shop, client, "dst", ADDRESSES[server]),
        *sockets(shop, server, "dst", ADDRESSES[client]),
    ]


# -- agreement ---------------------------------------------------------------------------


def test_totals_agree_with_other_tools_under_load(shop: World, viewer: Viewer) -> None:
    """Each total's growth lies between what others saw grow just inside and just outside."""

    def others() -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for service, counters in links(shop).items():
            for way in ("receive", "transmit"):
                for what in ("bytes", "packets", "errors"):
                    found[f"link_{way}_{what}_total", service] = counters[f"{way}_{what}"]
                drops = counters[f"{way}_dropped"]
                found[f"link_{way}_drops_total", service] = drops
        for table in ("raw", "nat", "filter"):
            for name, (packets, size) in rules(shop, table).items():
                found["nat_packets_total", f"{table}/{name}"] = packets
                found["nat_bytes_total", f"{table}/{name}"] = size
        return found

    def ours(look: Look, key: tuple[str, ...]) -> float:
        name, who = key
        if name.startswith("nat"):
            return look.value(name, rule=who)
        return look.value(name, link=f"veth-{SERVICES[who]}", hop=who)

    with load(shop):
        outer = others()
        first = viewer.look()
        inner = others()
        eventually(lambda: rules(shop, "nat")["publish-8080"][0] > inner_publish(inner) + 200)
        inner_end = others()
        last = viewer.look()
        outer_end = others()
    assert len(outer) > 6 * 8 + 10 * 2  # all links, and the rules of ours
    for key in outer:
        grown = ours(last, key) - ours(first, key)
        assert inner_end[key] - inner[key] <= grown <= outer_end[key] - outer[key], key
    assert ours(last, ("nat_packets_total", "nat/publish-8080")) > 200
    for service in SERVICES.keys() - {"prometheus"}:  # which asks by its own clock
        assert ours(last, ("link_receive_bytes_total", service)) > 5_000


def inner_publish(found: dict[tuple[str, ...], float]) -> float:
    return found["nat_packets_total", "nat/publish-8080"]


def test_processor_time_agrees_with_proc_under_load(shop: World, viewer: Viewer) -> None:
    """Who waits for a processor is the machine's affair: of one with many nobody need wait."""
    with load(shop):
        outer = threads(shop)
        first = viewer.look()
        inner = threads(shop)
        eventually(lambda: least_used_s(inner, threads(shop)) > 0.3, within_s=90)
        inner_end = threads(shop)
        last = viewer.look()
        outer_end = threads(shop)
    ended_s = 0.3  # of a process that ended after our look
    names = ["hop_cpu_seconds_total", "hop_runqueue_seconds_total"]
    grown: dict[str, float] = dict.fromkeys(names, 0.0)
    for which, name in enumerate(names):
        for service in SERVICES:
            one = last.value(name, hop=service) - first.value(name, hop=service)
            least = grown_s(inner[service], inner_end[service], which, both=True)
            most = grown_s(outer[service], outer_end[service], which, both=False)
            assert least - ROUNDING_S <= one <= most + ended_s, (name, service)
            grown[name] += one
    assert min(grown.values()) > 0, grown


def least_used_s(before: dict[str, Times], now: dict[str, Times]) -> float:
    """Of those of which much time is asked; Redis and Prometheus have little to do."""
    asked = SERVICES.keys() - {"redis-cache", "prometheus"}
    return min(grown_s(before[name], now[name], 0, both=True) for name in asked)


def test_memory_and_descriptors_are_those_of_proc(shop: World, viewer: Viewer) -> None:
    """Redis is one process: there RSS means one thing."""
    pid = program(shop, "redis-cache")

    def agree() -> bool:
        look = viewer.look()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        resident = look.value("hop_resident_memory_bytes", hop="redis-cache")
        descriptors = look.value("hop_open_fds", hop="redis-cache")
        return resident == pages * os.sysconf("SC_PAGE_SIZE") and descriptors == len(
            list(Path(f"/proc/{pid}/fd").iterdir())
        )

    eventually(agree)
    # Every backend of PostgreSQL maps its 32 MB of buffers and more; they are there once.
    pids = run("ip", "netns", "pids", f"{shop.host}.postgres-db").ok().out.split()
    summed = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    look = viewer.look()
    assert look.value("hop_resident_memory_bytes", hop="postgres-db") < summed * 4096
    assert look.value("hop_open_fds", hop="postgres-db") > 10


def test_connections_and_round_trips_agree_with_ss(shop: World, viewer: Viewer) -> None:
    edge = {"client": "product-service", "server": "postgres-db"}

    def agree() -> bool:
        """The kernel's minimum may fall between two looks; so until both say the same."""
        lines = ends(shop, **edge)
        look = viewer.look()
        fastest = min(float(re.findall(r"minrtt:([\d.]+)", line)[0]) for line in lines)
        count = look.value("edge_tcp_connections", **edge, state="established")
        seen_us = look.value("edge_tcp_min_rtt_seconds", **edge) * 1e6
        return count == len(lines) / 2 and seen_us == pytest.approx(fastest * 1e3)

    shop.curl("http://localhost:8080/api/products/1", "-H", "Cache-Control: no-cache").ok()
    eventually(agree)
    with load(shop):
        gateway = {"client": "nginx-lb", "server": "api-gateway", "state": "established"}
        eventually(lambda: viewer.look().value("edge_tcp_connections", **gateway) >= 2)
        ingress = {"client": "ingress", "server": "nginx-lb", "state": "established"}
        eventually(lambda: viewer.look().value("edge_tcp_connections", **ingress) >= 1)


def test_conntrack_is_that_of_the_labs_host(shop: World, viewer: Viewer) -> None:
    def count(name: str) -> int:
        path = f"/proc/sys/net/netfilter/nf_conntrack_{name}"
        return int(shop.on_host("cat", path).ok().out)

    shop.curl("http://localhost:8080/health").ok()
    eventually(lambda: 0 < viewer.look().value("conntrack_entries") == count("count"))
    assert viewer.look().value("conntrack_entries_limit") == count("max")


# -- what goes wrong ---------------------------------------------------------------------


def test_accept_queue_grows_while_a_service_is_stopped(shop: World, viewer: Viewer) -> None:
    pid = program(shop, "api-gateway")
    opened = []
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            with inside(Path(f"/run/netns/{shop.host}.nginx-lb")):
                end = socket.socket()
            end.connect(("10.0.0.20", 3000))
            opened.append(end)

        def queue() -> tuple[float, float]:
            look = viewer.look()
            waiting = look.value("listener_accept_queue", hop="api-gateway")
            return waiting, look.value("listener_accept_queue_limit", hop="api-gateway")

        eventually(lambda: queue()[0] >= 20)
        out = shop.inside("api-gateway", "ss", "-ltnH", "sport", "=", ":3000").ok().out.split()
        assert queue() == (int(out[1]), int(out[2]))
        assert queue()[1] == 1024
    finally:
        os.kill(pid, signal.SIGCONT)
        for end in opened:
            end.close()
    eventually(lambda: queue()[0] == 0)


def test_retransmits_are_seen_when_a_link_is_cut_and_stay_when_sockets_close(
    shop: World, viewer: Viewer
) -> None:
    edge = {"client": "product-service", "server": "postgres-db"}

    def total() -> float:
        return viewer.look().value("edge_tcp_retransmits_total", **edge)

    def by_ss() -> int:
        found = [re.findall(r"retrans:\d+/(\d+)", line) for line in ends(shop, **edge)]
        return sum(int(each[0]) for each in found if each)

    known = by_ss()
    before = total()
    words = ["curl", "-s", "-m", "20", "-H", "Cache-Control: no-cache"]
    words = ["ip", "netns", "exec", shop.host, *words, "http://localhost:8080/api/products/1"]
    shop.on_host("ip", "link", "set", "veth-pg-br", "down").ok()
    try:
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as request:
            eventually(lambda: by_ss() > known)
            eventually(lambda: total() > before)
            shop.on_host("ip", "link", "set", "veth-pg-br", "up").ok()
            assert request.wait(timeout=30) == 0
    finally:
        shop.on_host("ip", "link", "set", "veth-pg-br", "up").ok()
    eventually(lambda: total() - before >= by_ss() - known)
    seen = total()
    shop.orchestrator("replay", "product-service").ok()
    assert total() >= seen


@pytest.mark.parametrize("part", ["service:redis-cache", "netns:redis-cache", "nat"])
def test_totals_never_fall_while_a_part_is_rebuilt(shop: World, viewer: Viewer, part: str) -> None:
    def traffic() -> None:
        for _ in range(10):
            shop.curl("http://localhost:8080/api/products/1").ok()

    traffic()
    looks = [viewer.look()]
    assert looks[0].value("link_receive_packets_total", link="veth-redis", hop="redis-cache") > 0
    with shop.start("replay", part, "--cascade") as rebuild:
        while rebuild.poll() is None:
            looks.append(viewer.look())
        out, _ = rebuild.communicate()
    assert rebuild.returncode == 0, out
    looks.append(viewer.look())
    traffic()
    looks.append(viewer.look())
    assert len(looks) > 5
    for before, after in itertools.pairwise(looks):
        fallen = [k for k, v in before.totals.items() if after.totals.get(k, -1) < v]
        assert not fallen
    for name, labels in {
        "link_receive_packets_total": {"link": "veth-redis", "hop": "redis-cache"},
        "hop_cpu_seconds_total": {"hop": "redis-cache"},
        "nat_packets_total": {"rule": "nat/publish-8080"},
    }.items():
        assert looks[-1].value(name, **labels) > looks[-2].value(name, **labels)


def test_one_look_a_second_and_nothing_is_held(shop: World, viewer: Viewer) -> None:
    """A socket that stayed open would keep a removed namespace alive."""
    first = viewer.look()
    shop.curl("http://localhost:8080/health").ok()
    again = viewer.look(after_s=0.4)
    assert again.text == first.text
    later = viewer.look(after_s=0.7)
    publish = {"rule": "nat/publish-8080"}
    assert later.value("nat_packets_total", **publish) > first.value("nat_packets_total", **publish)
    assert later.descriptors == first.descriptors


def test_very_many_in_time_wait_are_read_in_part(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others all the same; what is read of them is bounded."""
    with inside(Path(f"/run/netns/{shop.host}")):
        server = socket.create_server(("127.0.0.1", 0))
        channels = [sockdiag.open_channel(), sockdiag.open_channel()]
        port = server.getsockname()[1]
        open_one = socket.create_connection(("127.0.0.1", port))
        other_end, _ = server.accept()
        for _ in range(1000):
            with socket.create_connection(("127.0.0.1", port)):
                server.accept()[0].close()
        waiting = int(re.findall(r"^TCP:.* tw (\d+)", sockstat(), re.MULTILINE)[0])
    assert waiting >= 1000

    def read(limit: int) -> tuple[int, int]:
        monkeypatch.setattr(sampler, "TIME_WAIT_LIMIT", limit)
        with channels.pop() as channel:
            found = sampler.read_sockets(channel, waiting)
        states = [each.state for each in found if port in (each.local_port, each.remote_port)]
        return states.count(State.TIME_WAIT), len(states) - states.count(State.TIME_WAIT)

    with server, open_one, other_end:
        whole, some = read(waiting), read(10)
    assert whole[0] >= 1000
    assert 0 < some[0] < whole[0]
    assert some[1] == whole[1] == 3  # the listener, and both ends of the open one


def sockstat() -> str:
    return Path("/proc/thread-self/net/sockstat").read_text()


def test_promtool_finds_nothing_to_complain_of(shop: World, viewer: Viewer) -> None:
    text = viewer.look().text
    words = ["promtool", "check", "metrics"]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert 100 < sum(not line.startswith("#") for line in text.splitlines()) < 400


def test_lab_that_is_not_there_is_no_error(world: World, write_stack: Callable[..., Path]) -> None:
    """Before `up`, while it is up, and after `down`: the same children, nothing falls."""
    stack = write_stack("""
        name: one
        networks: {br-app: {address: 10.0.0.1/16}}
        services:
          web:
            networks: {br-app: 10.0.0.10}
            command: [python, -m, http.server, "80", --directory, /usr/share/doc]
            ports: ["8080:80"]
            readiness: {http: {port: 80, path: /}}
    """)
    viewer = Viewer(world, stack=stack)
    try:
        before = viewer.look()
        assert set(before.totals.values()) == {0.0}
        world.orchestrator("up", stack=stack).ok()
        viewer.look()
        world.curl("http://localhost:8080/").ok()
        up = viewer.look()
        world.orchestrator("down", stack=stack).ok()
        after = viewer.look()
    finally:
        viewer.close()
    assert up.value("link_receive_packets_total", link="veth-web", hop="web") > 0
    assert up.value("hop_cpu_seconds_total", hop="web") > 0
    assert up.value("hop_resident_memory_bytes", hop="web") > 1_000_000
    assert before.samples.keys() == up.samples.keys() == after.samples.keys()
    assert all(after.totals[key] >= value for key, value in up.totals.items())
    assert after.value("hop_resident_memory_bytes", hop="web") == 0
    assert after.value("listener_accept_queue_limit", hop="web") == 0
