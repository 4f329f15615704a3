"""The verdicts of `why` without a kernel: what was seen → which layer, whose fault."""

from __future__ import annotations

import inspect
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.diagnosis import network, transport
from orchestrator.diagnosis.network import Counted, Shell, Way
from orchestrator.diagnosis.transport import Attempt, Member, Outcome, Running
from orchestrator.kernel.bridge import MTU, Bridge
from orchestrator.kernel.iptables import parse
from orchestrator.kernel.listening import Listening
from orchestrator.kernel.neighbours import Neighbour
from orchestrator.kernel.netlink import Netlink, Snapshot
from orchestrator.kernel.rtnetlink import Link, Route
from orchestrator.kernel.veth import DEFAULT, Veth
from orchestrator.processes.probes import Answer
from orchestrator.resource import Observation, State

SHELL = Shell("")
MAC, GROUP, ALIAS = "02:00:00:00:00:aa", 7, "orchestrator:shop"
ADDRESS, GATEWAY = IPv4Interface("10.0.0.60/16"), IPv4Interface("10.0.0.1/16")
NETLINK = Netlink()
VETH = Veth(
    "veth:pg",
    bridge="br-app",
    outer="veth-pg-br",
    inner="veth-pg",
    namespace=Path("/run/netns/pg"),
    address=ADDRESS,
    gateway=GATEWAY.ip,
    mac=MAC,
    outer_mac="02:00:00:00:00:bb",
    hairpin=False,
    mark=ALIAS,
    group=GROUP,
    netlink=NETLINK,
)
BRIDGE = Bridge("br-app", GATEWAY, "02:00:00:00:00:cc", ALIAS, GROUP, NETLINK)


def made(name: str, index: int, kind: str, **changed: object) -> Link:
    fields = dict.fromkeys(inspect.signature(Link).parameters, False)
    usual = {
        **fields,
        "index": index,
        "name": name,
        "kind": kind,
        "mac": MAC,
        "group": GROUP,
        "alias": ALIAS,
        "up": True,
        "running": True,
        "master": 0,
        "port_state": -1,
        "mtu": MTU,
        "peer_index": 0,
    }
    return Link(**{**usual, **changed})  # type: ignore[arg-type]


MASTER = made("br-app", 1, "bridge")
OUTER = made("veth-pg-br", 2, "veth", master=1, port_state=3, peer_index=5)
INNER = made("veth-pg", 5, "veth", peer_index=2)
ROUTE = Route(DEFAULT, GATEWAY.ip, 5)


def host(*links: Link, addresses: list[IPv4Interface] | None = None) -> Snapshot:
    kept = {link.name: link for link in (MASTER, OUTER, *links)}
    return Snapshot(kept, {1: [GATEWAY] if addresses is None else addresses}, [])


def inside(link: Link = INNER, *, has_address: bool = True) -> Snapshot:
    return Snapshot({link.name: link}, {5: [ADDRESS] if has_address else []}, [ROUTE])


EMPTY = Snapshot({}, {}, [])


@pytest.mark.parametrize(
    ("on_host", "within", "verdict", "evidence", "command"),
    [
        (host(), inside(), "ok", "carrier, 10.0.0.60/16", "ip -n pg address show dev veth-pg"),
        (EMPTY, EMPTY, "broken", "do not exist", "ip link show dev veth-pg-br"),
        (EMPTY, inside(), "broken", "veth-pg-br does not exist", "ip link show dev veth-pg-br"),
        (host(), EMPTY, "broken", "veth-pg does not exist", "ip -n pg address show dev veth-pg"),
        (host(), None, "skipped", "cannot be entered", ""),
        (
            host(replace(OUTER, peer_index=9)),
            inside(),
            "broken",
            "are no pair",
            "ip link show dev veth-pg-br",
        ),
        (
            host(replace(OUTER, group=1, alias="")),
            inside(),
            "broken",
            "belongs to somebody else",
            "ip link show dev veth-pg-br",
        ),
        (
            host(replace(OUTER, up=False)),
            inside(replace(INNER, running=False)),
            "broken",
            "veth-pg-br is down",
            "ip link show dev veth-pg-br",
        ),
        (
            host(replace(OUTER, running=False)),
            inside(replace(INNER, up=False, running=False)),
            "broken",
            "veth-pg is down",
            "ip -n pg address show dev veth-pg",
        ),
        (
            host(),
            inside(has_address=False),
            "broken",
            "veth-pg has no address, wanted 10.0.0.60/16",
            "ip -n pg address show dev veth-pg",
        ),
    ],
)
def test_link(
    on_host: Snapshot, within: Snapshot | None, verdict: str, evidence: str, command: str
) -> None:
    found = network.link(VETH, on_host, within, SHELL)
    assert (found.layer, found.node, found.verdict) == ("link", "veth:pg", verdict)
    assert evidence in found.evidence
    assert found.command == command


@pytest.mark.parametrize(
    ("on_host", "verdict", "evidence"),
    [
        (host(), "ok", "br-app: up, 10.0.0.1/16"),
        (EMPTY, "broken", "there is no br-app"),
        (host(replace(MASTER, kind="dummy", group=0, alias="")), "broken", "somebody else"),
        (host(replace(MASTER, up=False)), "broken", "br-app is down"),
        (host(addresses=[]), "broken", "no address, wanted 10.0.0.1/16"),
    ],
)
def test_bridge(on_host: Snapshot, verdict: str, evidence: str) -> None:
    found = network.bridge(BRIDGE, on_host, SHELL)
    assert (found.layer, found.node, found.verdict) == ("bridge", "bridge:br-app", verdict)
    assert evidence in found.evidence


@pytest.mark.parametrize(
    ("on_host", "verdict", "evidence"),
    [
        (host(), "ok", "forwarding"),
        (host(replace(OUTER, master=0)), "broken", "no port of br-app"),
        (
            host(replace(OUTER, master=8), made("br-other", 8, "bridge")),
            "broken",
            "a port of br-other, not of br-app",
        ),
        (host(replace(OUTER, port_state=4)), "broken", "blocking, not forwarding"),
        # What stands on it is not judged: the bridge or the link itself is the cause.
        (host(replace(MASTER, up=False)), "skipped", "br-app is not there or down"),
        (host(replace(OUTER, up=False)), "skipped", "veth-pg-br is not up"),
    ],
)
def test_port(on_host: Snapshot, verdict: str, evidence: str) -> None:
    found = network.port(VETH, on_host, SHELL)
    assert (found.layer, found.node, found.verdict) == ("bridge", "veth:pg", verdict)
    assert evidence in found.evidence


def way(caller: str, *, mac: str = MAC, state: str = "REACHABLE", answered: bool = True) -> Way:
    entry = Neighbour(ADDRESS.ip, mac, state)
    own = IPv4Address("10.0.0.30")
    return Way(
        caller, caller, f"veth:{caller}", "eth", ADDRESS.ip, str(own), str(own), "", entry, answered
    )


DEAD = {"mac": "", "state": "FAILED", "answered": False}


@pytest.mark.parametrize(
    ("ways", "verdict", "node"),
    [
        ([way("a"), way("b")], "ok", "veth:pg"),
        ([way("a", **DEAD), way("b", **DEAD)], "broken", "veth:pg"),  # type: ignore[arg-type]
        ([way("a"), way("b", **DEAD)], "broken", "veth:b"),  # type: ignore[arg-type]
        ([way("a"), way("b", mac="02:bad", answered=False)], "broken", "veth:b"),
        # An old entry does not matter to one who is answered.
        ([way("a", mac="02:bad", state="STALE")], "ok", "veth:pg"),
        ([], "ok", "veth:pg"),
    ],
)
def test_neighbour_blames_the_target_if_nobody_resolves_it(
    ways: list[Way], verdict: str, node: str
) -> None:
    found = network.neighbour(VETH, MAC, ways, SHELL)
    assert (found.verdict, found.node) == (verdict, node)


def test_routes_of_callers_and_the_default() -> None:
    lost = replace(way("b"), source="", error="blackhole")
    astray = replace(way("c"), source="192.0.2.1")
    found = list(network.routes("veth:pg", [way("a"), lost, astray], SHELL))
    assert [(each.node, each.verdict) for each in found] == [
        ("veth:b", "broken"),
        ("veth:c", "broken"),
        ("veth:pg", "ok"),
    ]
    assert found[0].command == "ip -n b route get 10.0.0.60"
    default = network.default_route(VETH, replace(inside(), routes=[]), SHELL)
    assert default is not None
    assert (default.verdict, default.command) == ("broken", "ip -n pg route show default")
    assert network.default_route(replace(VETH, gateway=None), inside(), SHELL) is None


def tables(packets: int) -> Counted:
    def saved(count: int) -> str:
        lines = [f"[{count}:1] -A INPUT -p tcp -j DROP", f"[{count}:1] -A INPUT -j ACCEPT"]
        lines += ["[9:9] -A INPUT -s 192.0.2.1/32 -j DROP"]
        return "\n".join(["*filter", ":INPUT ACCEPT [0:0]", *lines, "COMMIT"])

    return Counted("netns:pg", "pg", parse(saved(2)), parse(saved(packets)))


def test_only_a_rule_whose_counter_moved_is_to_blame() -> None:
    assert list(network.denials(tables(2), SHELL)) == []
    (found,) = network.denials(tables(5), SHELL)
    assert (found.layer, found.node) == ("rules", "netns:pg")
    assert "took 3 packets" in found.evidence
    assert found.mend.endswith("ip netns exec pg iptables -t filter -D INPUT -p tcp -j DROP")


SOCKET = Listening("0.0.0.0", 80, 0, 128, 1)


def tried(caller: str, outcome: Outcome, *, redirected: bool = False) -> Attempt:
    port = 8080 if redirected else 80
    node = "nat:rules" if redirected else f"veth:{caller}"
    return Attempt(caller, "", node, "10.0.0.60", port, outcome, outcome.value, redirected)


YES, NO, SILENT = Outcome.CONNECTED, Outcome.REFUSED, Outcome.SILENT


@pytest.mark.parametrize(
    ("attempts", "sockets", "verdict", "node"),
    [
        ([tried("a", YES), tried("b", YES)], [SOCKET], "ok", "service:x"),
        # Refused where nobody listens: packets go there and back, the listener is the cause.
        ([tried("a", NO)], [], "ok", "service:x"),
        ([tried("a", NO)], [replace(SOCKET, address="127.0.0.1")], "ok", "service:x"),
        ([tried("a", NO)], [replace(SOCKET, address="10.0.1.60")], "ok", "service:x"),
        ([tried("a", NO)], [SOCKET], "broken", "service:x"),
        ([tried("a", NO)], [replace(SOCKET, address="10.0.0.60")], "broken", "service:x"),
        ([tried("a", SILENT)], [SOCKET], "broken", "service:x"),
        ([tried("a", YES), tried("b", SILENT)], [SOCKET], "broken", "veth:b"),
        ([tried("a", SILENT)], [replace(SOCKET, waiting=129)], "skipped", "service:x"),
        ([], [SOCKET], "skipped", "service:x"),
        # A published port that refuses while the service accepts: the redirection is the cause.
        ([tried("a", YES), tried("h", NO, redirected=True)], [SOCKET], "broken", "nat:rules"),
        ([tried("a", NO), tried("h", NO, redirected=True)], [], "ok", "service:x"),
    ],
)
def test_syn(attempts: list[Attempt], sockets: list[Listening], verdict: str, node: str) -> None:
    found = transport.syn("service:x", attempts, sockets, SHELL)
    assert (found.layer, found.verdict, found.node) == ("syn", verdict, node)


MAIN = Member(10, "nginx", "S", 5, 1024)
RUNNING = Running(Observation(State.PRESENT), (MAIN, replace(MAIN, pid=11)), (SOCKET,))


@pytest.mark.parametrize(
    ("running", "verdict", "evidence"),
    [
        (RUNNING, "ok", "nginx (10), 2 processes; 0.0.0.0:80, 0 of 128 wait"),
        (
            Running(Observation(State.ABSENT), (), (), last_error="exit code 7\nmore"),
            "broken",
            "its process is gone; exit code 7",
        ),
        (
            Running(Observation(State.ABSENT), (), (), full=("/data",)),
            "broken",
            "its process is gone; /data is full",
        ),
        (
            replace(RUNNING, observed=Observation(State.PARTIAL, "its program has ended")),
            "broken",
            "its program has ended",
        ),
        (
            replace(RUNNING, observed=Observation(State.PARTIAL, transport.CHANGED)),
            "drift",
            transport.CHANGED,
        ),
        (
            replace(RUNNING, members=(MAIN, replace(MAIN, pid=12, state="T"))),
            "broken",
            "stopped by a signal: nginx (12), state T",
        ),
        (
            replace(RUNNING, members=(replace(MAIN, descriptors=64, limit=64),)),
            "broken",
            "no file descriptor left: 64 of 64",
        ),
        (replace(RUNNING, sockets=()), "broken", "nobody listens on port 80"),
        (
            replace(RUNNING, sockets=(replace(SOCKET, address="127.0.0.1"),)),
            "broken",
            "port 80 is open on 127.0.0.1 alone",
        ),
        (replace(RUNNING, sockets=(replace(SOCKET, waiting=129),)), "broken", "is full: 129 wait"),
    ],
)
def test_listener(running: Running, verdict: str, evidence: str) -> None:
    found = transport.listener("service:x", [80], running, "x", SHELL)
    assert (found.layer, found.verdict) == ("listener", verdict)
    assert evidence in found.evidence


def test_configuration_that_the_tests_call_changed_is_what_a_service_calls_so() -> None:
    from orchestrator.processes.service import Service

    assert f'"{transport.CHANGED}"' in inspect.getsource(Service)


def test_answers() -> None:
    def verdict(given: Answer | None, running: Running = RUNNING) -> str:
        return transport.answer("service:x", "query", given, "psql", running).verdict

    assert verdict(None) == "skipped"
    assert verdict(Answer(False, "status 503")) == "broken"
    assert verdict(Answer(True, "1")) == "ok"
    assert verdict(Answer(True, "1"), replace(RUNNING, full=("/data",))) == "broken"


def test_job_that_nobody_misses_is_only_drift() -> None:
    def verdict(*, well: bool = True, missed: bool = True, state: State = State.ABSENT) -> str:
        seen = Observation(state)
        found = transport.job("job:x", seen, needs_are_well=well, is_missed=missed, log=(), full=())
        return found.verdict

    assert verdict(state=State.PRESENT) == "ok"
    assert verdict() == "broken"
    assert verdict(missed=False) == "drift"
    assert verdict(well=False) == "skipped"


def test_stopped_process_is_shown_by_its_own_pid_alone() -> None:
    members = (MAIN, replace(MAIN, pid=12, state="T"), replace(MAIN, pid=13, state="T"))
    found = transport.listener("service:x", [80], replace(RUNNING, members=members), "x", SHELL)
    assert found.command.endswith("-p 12,13")


@pytest.mark.parametrize(
    ("host_name", "expected"),
    [
        ("", ["ip x", "ip -n ns x", "bridge x", "x"]),
        ("lab", ["ip -n lab x", "ip -n ns x", "bridge -n lab x", "ip netns exec lab x"]),
    ],
)
def test_commands_can_be_typed_in_any_shell(host_name: str, expected: list[str]) -> None:
    shell = Shell(host_name)
    found = [shell.ip("x"), shell.ip("x", "ns"), shell.bridge("x"), shell.run("x")]
    assert found == expected
    assert shell.run("x", "ns") == "ip netns exec ns x"


def test_link_with_an_address_of_another_or_another_mtu_is_named_with_its_mend() -> None:
    other = IPv4Interface("10.0.0.50/16")
    both = replace(inside(), addresses={5: [ADDRESS, other]})
    owners = {ADDRESS.ip: "veth:pg", other.ip: "veth:redis"}
    found = network.link(VETH, host(), both, SHELL, owners)
    assert found.evidence == "foreign address: 10.0.0.50/16 in pg belongs to veth:redis"
    assert found.mend == "ip -n pg address del 10.0.0.50/16 dev veth-pg"
    assert network.link(VETH, host(), both, SHELL, {other.ip: "veth:pg.br-b"}).verdict == "ok"
    small = network.link(VETH, host(), inside(replace(INNER, mtu=100)), SHELL)
    assert (small.verdict, small.evidence) == ("broken", "veth-pg has MTU 100, wanted 65520")
    assert small.mend == "ip -n pg link set dev veth-pg mtu 65520"
    other_end = network.link(VETH, host(replace(OUTER, mtu=1500)), inside(), SHELL)
    assert other_end.mend == "ip link set dev veth-pg-br mtu 65520"


def test_file_of_somebody_else_in_place_of_a_link_is_let_be() -> None:
    node, name = "link:/tmp/nginx/nginx.conf", "/tmp/nginx/nginx.conf"
    foreign = Observation(State.FOREIGN, f"{name} is somebody else's file")
    found = transport.link(node, foreign, "ls -l")
    assert (found.verdict, found.evidence) == ("ok", f"{foreign.detail}, which is left as it is")
    assert transport.link(node, Observation(State.ABSENT), "ls -l").verdict == "broken"
    assert transport.link(node, Observation(State.PRESENT), "ls -l").verdict == "ok"
