"""`why` names the first broken layer and its node, for every fault of the matrix."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from faults import FAULTS, PROGRAMS, SERVICES, kill_tree, program
from names import next_name
from rig import ROOT, World, run
from warm import Warm

README = (ROOT / "README.md").read_text()

# fault → (a service that feels it, the first broken layer, its node)
EXPECTED: dict[str, tuple[str, str, str]] = {
    **{
        fault: (name, "listener", f"service:{name}")
        for name in PROGRAMS
        for fault in (
            f"{name} killed with all its processes",
            f"{name}: its program killed",
            f"{name} hangs (SIGSTOP)",
            f"{name}: out of file descriptors",
        )
    },
    **{
        f"{end} end of {name}'s veth set down": (name, "link", f"veth:{name}")
        for name in SERVICES
        for end in ("bridge's", "inner")
    },
    "postgres-db: a new backend hangs (SIGSTOP)": (
        "postgres-db",
        "listener",
        "service:postgres-db",
    ),
    "veth of redis-cache deleted": ("redis-cache", "link", "veth:redis-cache"),
    "address of postgres-db removed": ("postgres-db", "link", "veth:postgres-db"),
    "default route of api-gateway removed": ("api-gateway", "route", "veth:api-gateway"),
    "the host's route to the network removed": ("redis-cache", "route", "bridge:br-app"),
    "address of the bridge removed": ("postgres-db", "bridge", "bridge:br-app"),
    "bridge set down": ("order-service", "bridge", "bridge:br-app"),
    "bridge deleted": ("api-gateway", "bridge", "bridge:br-app"),
    "port cut off from the bridge (partition)": (
        "product-service",
        "bridge",
        "veth:product-service",
    ),
    "name of order-service's namespace unmounted": (
        "order-service",
        "namespace",
        "netns:order-service",
    ),
    "nat table flushed": ("nginx-lb", "rules", "nat:rules"),
    "rules of FORWARD flushed": ("nginx-lb", "rules", "nat:rules"),
    "a rule that drops all put first in FORWARD": ("nginx-lb", "rules", "nat:rules"),
    "postgres-db's callers shut out of its policy": (
        "postgres-db",
        "rules",
        "policy:postgres-db",
    ),
    "ip_forward turned off": ("nginx-lb", "sysctl", "sysctl:ip_forward"),
    "route_localnet turned off": ("nginx-lb", "sysctl", "bridge:br-app"),
}
# It is DROP on this host already: the platform is made to live with it. Without a policy more
# or a guard more is answered, not less; without its network's route a service takes the default.
HARMLESS = (
    "policy of FORWARD turned to DROP",
    "policy of redis-cache flushed",
    "table that guards the bridge's ports deleted",
    "route of redis-cache to its network removed",
)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    found = Warm()
    yield found
    found.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A shop without a supervisor, so that what is broken stays so."""
    world = World.build(next_name(), tmp_path_factory.mktemp("why"))
    try:
        world.orchestrator("up").ok()
        yield world
    finally:
        world.orchestrator("down", "--volumes")
        world.remove()


def ask(shop: World, warm: Warm, *questions: str) -> list[dict[str, Any]]:
    """What `why --json` says to each question, all at once; empty: the whole platform."""
    commands = [shop.words("why", "--json", *filter(None, [name])) for name in questions]
    answers = warm.run(*commands)
    for each in answers:
        assert each.code in (0, 1), each.text
        assert each.code == (0 if each.json_of_failure()["well"] else 1)
    return [each.json_of_failure() for each in answers]


def first_of(found: dict[str, Any]) -> tuple[str, str]:
    """Layer and node that are named, with the whole answer where there is none."""
    first = found["first_broken"]
    assert first is not None, found
    assert first["evidence"]
    return first["layer"], first["node"]


def command_exists(command: str) -> bool:
    """Whether the shell and `ip netns exec` know what is to be typed; it may well fail."""
    return run("timeout", "5", "bash", "-c", command).code not in (126, 127, 255)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in HARMLESS])
def test_first_broken_layer_is_named(shop: World, warm: Warm, fault: str) -> None:
    assert fault in EXPECTED, "a new fault: EXPECTED must say which layer of which node breaks"
    service, layer, node = EXPECTED[fault]
    FAULTS[fault](shop)
    try:
        # By itself and without a name; for the deepest also by what stands on it.
        questions = ["nginx-lb", service, ""] if service == "postgres-db" else [service, ""]
        answers = ask(shop, warm, *questions)
        named = {q: first_of(found) for q, found in zip(questions, answers, strict=True)}
        assert named == dict.fromkeys(questions, (layer, node)), answers
        assert {found["first_broken"]["verdict"] for found in answers} == {"broken"}
        assert [found["chain"][-1] for found in answers] == [node] * len(answers)
        assert command_exists(answers[0]["first_broken"]["command"])
    finally:
        if "hangs" in fault or "descriptors" in fault:  # or mending would wait for it to leave
            kill_tree(service)(shop)
        mended = warm.run(shop.words("replay"))[0]
    mended.ok()


# What others may have put in the way: name → (how it comes and goes, what is asked, its answer).
# `{host}` is the lab's host.
IN_THE_WAY = {
    "rule in postgres-db's namespace": (
        "ip netns exec {host}.postgres-db iptables -{do} INPUT -p tcp --dport 5432 -j DROP",
        "ID",
        "nginx-lb",
        ("rules", "netns:postgres-db"),
    ),
    "small MTU at one end of a pair": (
        "ip -n {host}.postgres-db link set veth-pg mtu {do}",
        ("100", "65520"),
        "postgres-db",
        ("link", "veth:postgres-db"),
    ),
    "address of another service": (
        "ip -n {host}.redis-cache addr {do} 10.0.0.60/16 dev veth-redis",
        ("add", "del"),
        "redis-cache",
        ("link", "veth:redis-cache"),
    ),
    "blackhole in order-service's routes": (
        "ip -n {host}.order-service route {do} blackhole 10.0.0.60",
        ("add", "del"),
        "order-service",
        ("route", "veth:order-service"),
    ),
    "wrong MAC in product-service's neighbours": (
        "ip -n {host}.product-service neigh {do} 10.0.0.50 lladdr 2:0:0:0:0:1 dev veth-product",
        ("replace", "del"),
        "product-service",
        ("neighbour", "veth:product-service"),
    ),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_others_put_in_the_way_is_named(shop: World, warm: Warm, what: str) -> None:
    line, (come, go), asked, expected = IN_THE_WAY[what]
    run("bash", "-c", line.format(host=shop.host, do=come)).ok()
    try:
        found, well = ask(shop, warm, asked, "redis-cache" if "postgres" in what else "nginx-lb")
    finally:
        run("bash", "-c", line.format(host=shop.host, do=go)).ok()
    assert first_of(found) == expected
    # Who does not stand on it is well; nginx-lb stands on everything.
    assert well["well"] is ("postgres" in what)


def test_all_is_well_is_said_with_evidence_for_each_layer(shop: World, warm: Warm) -> None:
    FAULTS[HARMLESS[0]](shop)
    nodes = ("postgres-db", "veth:nginx-lb", "br-app", "nat:rules", "ip_forward", "migrate", "")
    answers = ask(shop, warm, *nodes, "netns:redis-cache", "storefront")
    assert [each["first_broken"] for each in answers] == [None] * len(answers)
    walk = {each["node"]: each["findings"] for each in answers[0]["walks"]}
    layers = [each["layer"] for each in walk["service:postgres-db"]]
    assert list(dict.fromkeys(layers)) == [
        *("namespace", "link", "bridge", "neighbour", "route", "sysctl", "rules"),
        *("syn", "listener", "query"),
    ]
    commands = {
        each["command"] for found in answers for w in found["walks"] for each in w["findings"]
    }
    shown = {command: run("timeout", "5", "bash", "-c", command) for command in commands if command}
    assert {command: done.text for command, done in shown.items() if done.code != 0} == {}


def test_check_that_cannot_pass_now_is_not_said_to_be_ready(shop: World) -> None:
    def found() -> tuple[str, str]:
        rows = shop.orchestrator("status", "--json").json()["nodes"]
        named = {row["node"]: row for row in rows}
        return named["check:storefront"]["state"], named["service:nginx-lb"]["detail"]

    assert found() == ("ready", "")
    rule = ("OUTPUT", "-d", "10.0.0.10", "-p", "tcp", "--dport", "80", "-j", "DROP")
    shop.on_host("iptables", "-I", *rule).ok()
    try:
        state, detail = found()
    finally:
        shop.on_host("iptables", "-D", *rule).ok()
    assert state == "unknown"
    assert "no answer to the host" in detail
    assert found() == ("ready", "")


def test_deleted_file_of_a_service_is_seen_and_comes_back(shop: World, warm: Warm) -> None:
    file = next(shop.run_dir.glob("*/nodes/nginx-lb/*-nginx.conf"))
    text = file.read_text()
    file.unlink()
    (found,) = ask(shop, warm, "nginx-lb")
    assert first_of(found) == ("listener", "service:nginx-lb")
    assert f"{file} was deleted" in found["first_broken"]["evidence"]
    shop.orchestrator("replay").ok()
    assert file.read_text() == text
    (found,) = ask(shop, warm, "nginx-lb")
    assert found["well"]


def test_readme_shows_what_is_printed(shop: World, warm: Warm) -> None:
    """Line by line, but for numbers and the names that a private host adds."""
    found = re.search(r"```\n# orchestrator why nginx-lb\n(.*?)```", README, re.DOTALL)
    assert found is not None

    def plain(text: str) -> set[str]:
        for added in (f"ip netns exec {shop.host} ", f"-n {shop.host} ", f"{shop.host}."):
            text = text.replace(added, "")
        text = re.sub(r"(orchestrator replay) --host-netns .*", r"\1", text)
        return {re.sub(r"[0-9.]+| +", " ", line) for line in text.splitlines()}

    os.kill(program(shop, "postgres-db"), signal.SIGSTOP)
    try:
        answer = warm.run(shop.words("why", "nginx-lb"))[0]
    finally:
        kill_tree("postgres-db")(shop)
        mended = warm.run(shop.words("replay"))[0]
    assert answer.code == 1
    assert f"mend: orchestrator replay --host-netns {shop.host} " in answer.out
    assert plain(found[1]) - plain(answer.out) == {"…"}
    mended.ok()


def test_looking_changes_nothing(shop: World, warm: Warm) -> None:
    before, states = shop.fingerprint(), shop.orchestrator("status", "--json").json()["nodes"]
    for text in warm.run(shop.words("why"), shop.words("why", "--all", "order-service")):
        assert "is well" in text.ok().out
    assert shop.fingerprint() == before
    now = shop.orchestrator("status", "--json").json()["nodes"]
    assert [row["pid"] for row in now] == [row["pid"] for row in states]


def test_unknown_node_is_wrong_use(shop: World, warm: Warm) -> None:
    answer = warm.run(shop.words("why", "nobody"))[0]
    assert answer.code == 2
    assert "unknown node nobody" in answer.err
