"""The kernel's view, its pure part: whose a socket is, and totals that never fall."""

from __future__ import annotations

import math
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.app import App, open_app
from orchestrator.exposition import Sheet
from orchestrator.kernel import iptables
from orchestrator.kernel.linkstats import LinkCounters
from orchestrator.kernel.rulecounters import RuleCounter, from_tables
from orchestrator.kernel.sockdiag import Socket, State
from orchestrator.processes.usage import PAGE_BYTES, Usage
from orchestrator.view import families
from orchestrator.view.collector import KernelCollector
from orchestrator.view.edges import Queue, Sorter
from orchestrator.view.families import FAMILIES
from orchestrator.view.kernelview import Figuring
from orchestrator.view.plan import Edge, Plan, plan_of
from orchestrator.view.sample import Sample, Space
from orchestrator.view.totals import Odometer

SHOP = Path(__file__).parents[2] / "services" / "stack.yaml"
NGINX, GATEWAY, PRODUCT, REDIS = "10.0.0.10", "10.0.0.20", "10.0.0.30", "10.0.0.50"
BRIDGE, OUTSIDE = "10.0.0.1", "203.0.113.1"

POD = """
name: pod
networks: {br-pod: {address: 10.3.0.1/24}}
services:
  app:
    networks: {br-pod: 10.3.0.10}
    command: [app]
    listen: {port: 80}
    needs: [store]
  sidecar:
    namespace: app
    command: [sidecar]
    listen: {port: 81}
    needs: [store]
  store:
    networks: {br-pod: 10.3.0.20}
    command: [store]
    readiness: {tcp: 6379}
"""


def app_of(path: Path) -> App:
    return open_app(path, host="", state_root=Path("/nowhere/s"), run_root=Path("/nowhere/r"))


@pytest.fixture(scope="module")
def shop() -> Plan:
    return plan_of(app_of(SHOP))


@pytest.fixture
def pod(tmp_path: Path) -> Plan:
    path = tmp_path / "stack.yaml"
    path.write_text(POD)
    return plan_of(app_of(path))


def tcp(
    local: str,
    remote: str,
    *,
    state: State = State.ESTABLISHED,
    cookie: int = 1,
    uid: int = 0,
    retransmits: int = 0,
    min_rtt_us: int | None = None,
) -> Socket:
    """A socket between `address:port` and `address:port`."""
    (here, port), (there, far) = (end.split(":") for end in (local, remote))
    ends = (IPv4Address(here).packed, int(port), IPv4Address(there).packed, int(far))
    basic = Socket(state, *ends, cookie, uid, 0, 0)
    return basic._replace(retransmits=retransmits, min_rtt_us=min_rtt_us)


def listener(port: int, *, waiting: int = 0, limit: int = 128, uid: int = 0) -> Socket:
    return Socket(State.LISTEN, bytes(4), port, bytes(4), 0, port, uid, waiting, limit)


def sample(**sockets: list[Socket]) -> Sample:
    """By service, with - for _."""
    return Sample({name.replace("_", "-"): Space(1, found) for name, found in sockets.items()})


def edges(plan: Plan, seen: Sample) -> list[tuple[str, str, bool]]:
    return [(*end.edge, end.counts) for end in Sorter(plan, seen).ends()]


def test_edges_are_the_needs_and_jobs_stand_for_their_service(shop: Plan) -> None:
    watchers = ("prometheus", "nginx-exporter", "postgres-exporter", "redis-exporter", "grafana")
    assert {each for each in shop.edges if each.client not in watchers} == {
        Edge("nginx-lb", "api-gateway"),
        Edge("api-gateway", "product-service"),
        Edge("api-gateway", "order-service"),
        Edge("api-gateway", "redis-cache"),
        Edge("product-service", "postgres-db"),
        Edge("product-service", "redis-cache"),
        Edge("order-service", "postgres-db"),
        Edge("order-service", "redis-cache"),
    }


def test_both_ends_are_of_the_edge_and_the_clients_counts(shop: Plan) -> None:
    seen = sample(
        nginx_lb=[tcp(f"{NGINX}:40000", f"{GATEWAY}:3000")],
        api_gateway=[listener(3000), tcp(f"{GATEWAY}:3000", f"{NGINX}:40000")],
    )
    assert edges(shop, seen) == [
        ("nginx-lb", "api-gateway", True),
        ("nginx-lb", "api-gateway", False),
    ]


def test_direction_is_known_while_nobody_listens(shop: Plan) -> None:
    """The stack names the port; the program is being replaced."""
    seen = sample(
        product_service=[tcp(f"{PRODUCT}:40000", f"{REDIS}:6379")],
        redis_cache=[tcp(f"{REDIS}:6379", f"{PRODUCT}:40000")],
    )
    assert edges(shop, seen) == [
        ("product-service", "redis-cache", True),
        ("product-service", "redis-cache", False),
    ]


def test_edge_that_no_need_tells_of_is_seen(shop: Plan) -> None:
    seen = sample(redis_cache=[tcp(f"{REDIS}:40000", f"{PRODUCT}:5000")])
    assert edges(shop, seen) == [("redis-cache", "product-service", True)]


@pytest.mark.parametrize(
    ("service", "socket", "expected"),
    [
        ("nginx_lb", tcp(f"{NGINX}:80", f"{OUTSIDE}:40000"), [("ingress", "nginx-lb", True)]),
        ("nginx_lb", tcp(f"{NGINX}:80", f"{BRIDGE}:40000"), [("ingress", "nginx-lb", True)]),
        # The supervisor asks whether a service is well that publishes nothing.
        ("product_service", tcp(f"{PRODUCT}:5000", f"{BRIDGE}:40000"), []),
        ("product_service", tcp(f"{PRODUCT}:40000", f"{OUTSIDE}:443"), []),
        ("redis_cache", tcp(f"{REDIS}:40000", f"{REDIS}:6379"), []),
        ("redis_cache", tcp("127.0.0.1:40000", "127.0.0.1:6379"), []),
    ],
)
def test_who_is_no_service(
    shop: Plan, service: str, socket: Socket, expected: list[tuple[str, str, bool]]
) -> None:
    assert edges(shop, sample(**{service: [socket]})) == expected


def test_services_of_one_namespace_are_told_apart_by_user_and_port(pod: Plan) -> None:
    uids = {hop.name: hop.uid for hop in pod.hops}
    seen = sample(
        app=[
            tcp("10.3.0.10:40000", "10.3.0.20:6379", uid=uids["app"]),
            tcp("10.3.0.10:40001", "10.3.0.20:6379", uid=uids["sidecar"]),
            tcp("127.0.0.1:40002", "127.0.0.1:80", uid=uids["sidecar"]),
            tcp("127.0.0.1:80", "127.0.0.1:40002", uid=uids["app"]),
        ],
        store=[tcp("10.3.0.20:6379", "10.3.0.10:40001")],
    )
    assert edges(pod, seen) == [
        ("app", "store", True),
        ("sidecar", "store", True),
        ("sidecar", "app", True),
        ("sidecar", "app", False),
        ("sidecar", "store", False),
    ]


def test_fullest_of_a_hops_queues_is_told(pod: Plan) -> None:
    uid = next(hop.uid for hop in pod.hops if hop.name == "sidecar")
    seen = sample(
        app=[
            listener(80, waiting=3, limit=1000),
            listener(81, waiting=5, limit=100),
            listener(9000, waiting=9, limit=10, uid=uid),
        ]
    )
    assert Sorter(pod, seen).queues() == {"app": Queue(3, 1000), "sidecar": Queue(9, 10)}


# -- totals ------------------------------------------------------------------------------


def test_first_reading_is_where_totals_begin() -> None:
    found: Odometer[str] = Odometer()
    assert found.advance({"old": 100}) == {"old": 0}
    assert found.advance({"old": 130, "new": 7}) == {"old": 30, "new": 7}
    assert found.advance({"new": 2}) == {"new": 2}  # it began anew
    assert found.advance({"new": 2, "old": 5}) == {"new": 0, "old": 5}


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 1 << 40))))
def test_nothing_ever_comes_backwards(readings: list[dict[str, int]]) -> None:
    found: Odometer[str] = Odometer()
    for values in readings:
        came = found.advance(values)
        assert came.keys() == values.keys()
        assert all(0 <= came[key] <= values[key] for key in came)


def test_everything_is_there_before_anything_was_read(shop: Plan) -> None:
    figures = Figuring(shop).add(Sample())
    assert figures.keys() == set(FAMILIES)
    for family in FAMILIES:
        values = figures[family].values()
        assert values
        assert all(math.isnan(v) if family is families.MIN_RTT else v == 0 for v in values)
    assert {"nginx-lb", "api-gateway", "postgres-db"} < {hop for (hop,) in figures[families.CPU]}
    assert len(figures[families.CONNECTIONS]) == (len(shop.edges) + 1) * 5
    assert ("nat/publish-8080",) in figures[families.NAT_PACKETS]


def test_processor_time_stays_when_threads_and_processes_go(shop: Plan) -> None:
    figuring = Figuring(shop)

    def cpu(**threads: int) -> tuple[float, float]:
        used = Usage({int(k[1:]): (ns * 10**9, ns * 10**8) for k, ns in threads.items()})
        figures = figuring.add(Sample(usage={"redis-cache": used}))
        labels = ("redis-cache",)
        return figures[families.CPU][labels], figures[families.RUNQUEUE][labels]

    assert cpu(t1=50, t2=50) == (0.0, 0.0)
    assert cpu(t1=51, t2=52, t3=4) == pytest.approx((7.0, 0.7))
    assert cpu(t3=5) == pytest.approx((8.0, 0.8))  # the others ended
    assert cpu() == pytest.approx((8.0, 0.8))  # so did the last
    assert cpu(t9=2) == pytest.approx((10.0, 1.0))  # it was started again


def test_retransmits_stay_when_sockets_close_and_namespaces_go(shop: Plan) -> None:
    figuring = Figuring(shop)
    edge = ("product-service", "redis-cache")

    def seen(product: Space | None, redis: Space | None) -> float:
        spaces = {"product-service": product, "redis-cache": redis}
        return figuring.add(Sample({name: s for name, s in spaces.items() if s}))[
            families.RETRANSMITS
        ][edge]

    def at_client(cookie: int, retransmits: int) -> Socket:
        return tcp(f"{PRODUCT}:4{cookie}", f"{REDIS}:6379", cookie=cookie, retransmits=retransmits)

    def at_server(cookie: int, retransmits: int) -> Socket:
        return tcp(f"{REDIS}:6379", f"{PRODUCT}:4{cookie}", cookie=cookie, retransmits=retransmits)

    assert seen(Space(1, [at_client(1, 10)]), Space(2, [at_server(1, 5)])) == 0
    assert seen(Space(1, [at_client(1, 11), at_client(2, 3)]), Space(2, [at_server(1, 7)])) == 6
    assert seen(Space(1, [at_client(2, 4)]), None) == 7  # one socket closed, one place unread
    assert seen(Space(1, [at_client(2, 4)]), Space(2, [at_server(1, 8)])) == 8  # not counted twice
    assert seen(Space(9, [at_client(2, 4)]), Space(2, [])) == 12  # the same number elsewhere
    assert seen(None, None) == 12


def test_link_goes_on_after_it_was_made_anew(shop: Plan) -> None:
    figuring = Figuring(shop)

    def received(inode: int, ifindex: int, count: int) -> float:
        counters = LinkCounters(ifindex, count, 0, 0, 0, 0, 0, 0, 0)
        figures = figuring.add(Sample({"redis-cache": Space(inode, (), {"veth-redis": counters})}))
        family = families.LINK["receive", "packets"]
        return figures[family]["veth-redis", "redis-cache"]

    assert received(1, 2, 1000) == 0
    assert received(1, 2, 1500) == 500
    assert received(1, 3, 1600) == 2100  # another link of that name, already ahead
    assert received(2, 2, 1700) == 3800  # in another namespace
    assert received(2, 2, 1) == 3801


def test_rules_are_ours_by_their_comment_and_go_on_after_a_replacement(shop: Plan) -> None:
    figuring = Figuring(shop)

    def publish(*counters: RuleCounter) -> tuple[float, float]:
        figures = figuring.add(Sample(rules=counters))
        label = ("nat/publish-8080",)
        return figures[families.NAT_PACKETS][label], figures[families.NAT_BYTES][label]

    name = "orchestrator:shop publish-8080"
    other = RuleCounter("nat", "orchestrator:shop@lab2 publish-8080", 7, 99, 99)
    assert publish(RuleCounter("nat", name, 5, 10, 600), other) == (0, 0)
    assert publish(RuleCounter("nat", name, 5, 12, 720), other) == (2, 120)
    assert publish(RuleCounter("nat", name, 9, 20, 1200), other) == (22, 1320)  # a new rule
    assert publish(RuleCounter("filter", name, 10, 5, 5)) == (22, 1320)  # of another label
    labels = {(shop.label(rule.table, rule.comment),) for rule in shop.rules}
    assert figuring.add(Sample())[families.NAT_PACKETS].keys() == labels


def test_rules_of_the_legacy_iptables_are_read_from_iptables_save(shop: Plan) -> None:
    figuring = Figuring(shop)
    line = next(rule.line() for rule in shop.rules if rule.comment.endswith(" publish-8080"))

    def publish(packets: int) -> float:
        text = f"*nat\n[{packets}:60] {line}\n[9:9] -A OTHERS -j ACCEPT\nCOMMIT\n"
        counters = from_tables(iptables.parse(text), shop.rules)
        assert len(counters) == 1
        return figuring.add(Sample(rules=counters))[families.NAT_PACKETS]["nat/publish-8080",]

    assert [publish(5), publish(8), publish(2)] == [0, 3, 5]


def test_gauges_tell_of_now(shop: Plan) -> None:
    figuring = Figuring(shop)
    edge = ("product-service", "redis-cache")
    ends = [
        tcp(f"{PRODUCT}:40001", f"{REDIS}:6379", min_rtt_us=30),
        tcp(f"{PRODUCT}:40002", f"{REDIS}:6379", min_rtt_us=20, state=State.CLOSE_WAIT),
        tcp(f"{PRODUCT}:40003", f"{REDIS}:6379", state=State.TIME_WAIT),
    ]
    far = [tcp(f"{REDIS}:6379", f"{PRODUCT}:40001", min_rtt_us=10), listener(6379, waiting=4)]
    spaces = sample(product_service=ends, redis_cache=far).spaces
    used = Usage({}, private_pages=3, shared_pages=2, descriptors=12)
    figures = figuring.add(Sample(spaces, {"redis-cache": used}, conntrack=(7, 100)))
    found = {
        state: figures[families.CONNECTIONS][*edge, state]
        for state in ("established", "close_wait", "time_wait", "closing")
    }
    assert found == {"established": 1, "close_wait": 1, "time_wait": 1, "closing": 0}
    assert figures[families.MIN_RTT][edge] == pytest.approx(10e-6)
    assert figures[families.QUEUE]["redis-cache",] == 4
    assert figures[families.QUEUE_LIMIT]["redis-cache",] == 128
    assert figures[families.RESIDENT]["redis-cache",] == 5 * PAGE_BYTES
    assert figures[families.DESCRIPTORS]["redis-cache",] == 12
    assert figures[families.CONNTRACK][()] == 7
    gone = figuring.add(Sample())
    assert math.isnan(gone[families.MIN_RTT][edge])
    assert gone[families.CONNECTIONS][*edge, "established"] == 0


def test_collector_gives_each_family_once_with_its_help(shop: Plan) -> None:
    families = KernelCollector(Figuring(shop).add(Sample())).families()
    lines = Sheet(is_open=False).text(families).splitlines()
    helps = [line.split(" ", 3) for line in lines if line.startswith("# HELP")]
    counters = {family.name for family in FAMILIES if family.kind == "counter"}
    assert [name for _, _, name, _ in helps] == [
        f"{family.name}_total" if family.name in counters else family.name for family in FAMILIES
    ]
    assert [text for _, _, _, text in helps] == [family.help for family in FAMILIES]
    assert not [line for line in lines if "_created" in line]
