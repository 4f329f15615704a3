"""The supervisor heals every fault of the matrix, and is no single point of failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import FAULTS, recovery_s, serves, whole
from rig import World, eventually, run

LOOP = """
name: loop
networks: {br-app: {address: 10.0.0.1/16}}
services:
  good:
    networks: {br-app: 10.0.0.10}
    command: [sleep, "1000"]
  crasher:
    networks: {br-app: 10.0.0.20}
    command: [sh, -c, "echo up; sleep 0.3; exit 3"]
supervision: {policy: %s, start_limit: 3}
"""


def supervisor(world: World, **kwargs: Path) -> int | None:
    found = world.orchestrator("status", "--json", **kwargs).json()["supervisor"]
    return None if found is None else int(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_healed(supervised: World, fault: str) -> None:
    eventually(lambda: whole(supervised) and serves(supervised), within_s=60)
    recovery_s(supervised, FAULTS[fault])


def test_what_stands_on_a_node_that_must_wait_waits_with_it(
    world: World, write_stack: Callable[..., Path]
) -> None:
    """Just mended, the bridge is not mended again at once; its links alone could not come up."""
    stack = write_stack((LOOP % "heal").replace("sleep 0.3; exit 3", "exec sleep 1000"))
    world.orchestrator("up", "--supervise", stack=stack).ok()
    log = world.state / f"loop@{world.host}" / "logs" / "supervisor.log"
    faults = ("ip addr del 10.0.0.1/16 dev br-app", "ip link set br-app down")
    for number, fault in enumerate(faults, start=1):
        world.on_host(*fault.split()).ok()
        eventually(lambda n=number: log.read_text().count("healed bridge:br-app") == n)
    assert [line for line in log.read_text().splitlines() if line.endswith("failed")] == []
    world.orchestrator("down", stack=stack).ok()


def test_services_outlive_their_supervisor_and_are_adopted(supervised: World) -> None:
    eventually(lambda: whole(supervised) and serves(supervised), within_s=60)
    rows = supervised.orchestrator("status", "--json").json()["nodes"]
    pids = {row["node"]: row["pid"] for row in rows}
    killed = supervisor(supervised)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: supervisor(supervised) is None)
    assert serves(supervised)
    again = supervised.orchestrator("up", "--supervise").ok()
    assert "already up" in again.out
    assert supervisor(supervised) not in (None, killed)
    rows = supervised.orchestrator("status", "--json").json()["nodes"]
    assert {row["node"]: row["pid"] for row in rows} == pids


def test_supervisor_that_is_stopped_is_named_and_replaced(
    world: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack((LOOP % "heal").replace("sleep 0.3; exit 3", "exec sleep 1000"))
    world.orchestrator("up", "--supervise", stack=stack).ok()
    stopped = supervisor(world, stack=stack)
    assert stopped is not None
    assert "stopped" not in world.orchestrator("status", stack=stack).ok().text
    os.kill(stopped, signal.SIGSTOP)
    for words in (["status"], ["status", "--json"], ["why"], ["path"], ["trace", "last"]):
        told = world.orchestrator(*words, stack=stack)
        assert f"pid {stopped}, is stopped (state T): nothing is mended" in told.err
        assert f"mend: `orchestrator up --host-netns {world.host} " in told.err
        assert told.code == (1 if words[0] in ("path", "trace") else 0)

    up = world.orchestrator("up", "--supervise", stack=stack).ok()
    assert f"pid {stopped}, is stopped (state T)" in up.err
    assert run("ps", "-o", "stat=", "-p", str(stopped)).out.strip() in ("", "Z", "Zs")
    assert supervisor(world, stack=stack) not in (None, stopped)
    before = world.sandbox_pids("good")
    world.kill("good")
    eventually(lambda: bool(world.sandbox_pids("good")) and world.sandbox_pids("good") != before)


def test_supervisor_that_is_stopped_in_a_healing_is_replaced(
    world: World, write_stack: Callable[..., Path]
) -> None:
    """It holds the lab."""
    slow = "until [ -e /stack/go ]; do sleep 0.1; done; exec python -m http.server 80"
    text = (LOOP % "heal").replace("echo up; sleep 0.3; exit 3", slow)
    stack = write_stack(text.replace("supervision:", "    readiness: {tcp: 80}\nsupervision:"))
    go = stack.with_name("go")
    go.touch()
    world.orchestrator("up", "--supervise", stack=stack).ok()
    stopped = supervisor(world, stack=stack)
    assert stopped is not None
    go.unlink()
    world.kill("crasher")
    log = world.state / f"loop@{world.host}" / "journal.jsonl"
    eventually(lambda: "StepProvisioned" in log.read_text().partition('"command":"heal"')[2])
    os.kill(stopped, signal.SIGSTOP)
    go.touch()
    for words in (["replay", "good"], ["secrets", "rotate"]):
        told = world.orchestrator(*words, stack=stack)
        assert told.code == 4
        assert f"pid {stopped}, its supervisor, which is stopped (state T)" in told.err
        assert f"mend: `kill -CONT {stopped}` lets it go on, `orchestrator up" in told.err
    world.orchestrator("up", "--supervise", stack=stack).ok()
    assert supervisor(world, stack=stack) not in (None, stopped)
    assert set(world.node_states(stack=stack).values()) == {"ready"}


OFTEN = """
from orchestrator import supervisor
from orchestrator.__main__ import run
supervisor.FULL_LOOK_S = 1.0
run()
"""


def test_what_nobody_tells_of_is_seen_by_the_whole_look(
    world: World, write_stack: Callable[..., Path]
) -> None:
    """Files for `ip netns exec`: no process, no link, no rule, no setting. The first look is the
    one that a supervisor begins with, so it takes two."""
    stack = write_stack((LOOP % "heal").replace("sleep 0.3; exit 3", "exec sleep 1000"))
    world.orchestrator("up", stack=stack).ok()
    hosts = Path(f"/etc/netns/{world.host}.good/hosts")
    before = hosts.read_text()
    words = world.words("supervise", stack=stack)
    process = subprocess.Popen([sys.executable, "-c", OFTEN, *words[3:]])
    try:
        for _ in range(2):
            hosts.unlink()
            eventually(hosts.exists)
            assert hosts.read_text() == before
    finally:
        process.terminate()
        process.wait()


def test_second_supervisor_is_told_who_is_there(supervised: World) -> None:
    first = supervisor(supervised)
    second = supervised.orchestrator("supervise")
    assert second.code == 4
    assert f"already has a supervisor: pid {first}" in second.err


def test_drift_is_in_the_journal_with_its_difference(supervised: World) -> None:
    supervised.on_host("ip", "link", "set", "veth-pg-br", "down").ok()
    eventually(lambda: whole(supervised))
    out = supervised.orchestrator("events").ok().out
    assert "veth:postgres-db: drift: veth-pg-br is down" in out


def test_crash_loop_ends_as_given_up_and_is_named(
    world: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(LOOP % "heal")
    world.orchestrator("up", "--supervise", stack=stack).ok()
    log = world.state / f"loop@{world.host}" / "logs" / "supervisor.log"
    eventually(
        lambda: "given up: service:crasher was healed 3 times" in log.read_text(), within_s=60
    )
    assert log.read_text().count("healed service:crasher") == 3
    states = world.node_states(stack=stack)
    assert states["service:good"] == "ready"
    assert states["service:crasher"] == "failed"
    out = world.orchestrator("events", stack=stack).ok().out
    assert "service:crasher: given up: healed 3 times" in out
    # Mended by a person it is watched again, once it has been well for a while.
    write_stack(LOOP.replace("sleep 0.3; exit 3", "exec sleep 1000") % "heal")
    world.orchestrator("up", "--supervise", stack=stack).ok()
    assert world.node_states(stack=stack)["service:crasher"] == "ready"
    world.orchestrator("down", stack=stack).ok()


@pytest.mark.parametrize("policy", ["alert", "freeze"])
def test_other_policies_tell_and_touch_nothing(
    world: World, write_stack: Callable[..., Path], policy: str
) -> None:
    text = (LOOP % policy).replace("sleep 0.3; exit 3", "exec sleep 1000")
    stack = write_stack(text)
    world.orchestrator("up", "--supervise", stack=stack).ok()
    world.on_host("ip", "link", "set", "veth-good-br", "down").ok()
    log = world.state / f"loop@{world.host}" / "logs" / "supervisor.log"
    eventually(lambda: f"drift ({policy}): veth:good" in log.read_text())
    assert "state DOWN" in world.on_host("ip", "link", "show", "veth-good-br").out
    out = world.orchestrator("events", stack=stack).ok().out
    assert "veth:good: drift: veth-good-br is down" in out
    world.orchestrator("down", stack=stack).ok()


def test_frozen_lab_is_changed_by_no_command_until_it_is_released(
    world: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack((LOOP % "freeze").replace("sleep 0.3; exit 3", "exec sleep 1000"))
    world.orchestrator("up", "--supervise", stack=stack).ok()
    before = supervisor(world, stack=stack)
    world.on_host("ip", "link", "set", "veth-good-br", "down").ok()
    marker = world.run_dir / f"loop@{world.host}" / "frozen"
    eventually(marker.exists)
    commands = (["up", "--supervise"], ["replay"], ["replay", "good"])
    for refused in [world.orchestrator(*words, stack=stack) for words in commands]:
        assert refused.code == 2
        assert "veth:good: veth-good-br is down" in refused.err
    assert "state DOWN" in world.on_host("ip", "link", "show", "veth-good-br").out
    assert "frozen" in world.orchestrator("status", stack=stack).err
    world.orchestrator("up", "--supervise", "--thaw", stack=stack).ok()
    assert "state UP" in world.on_host("ip", "link", "show", "veth-good-br").out
    assert supervisor(world, stack=stack) == before
    assert not marker.exists()
    world.orchestrator("replay", "good", stack=stack).ok()
    world.orchestrator("down", stack=stack).ok()


def test_changed_template_is_not_healed_back(
    world: World, write_stack: Callable[..., Path], tmp_path: Path
) -> None:
    """The stack file is the same; what a template of it renders to is not."""
    text = (LOOP % "heal").replace("sleep 0.3; exit 3", "exec sleep 1000")
    text = text.replace(
        'command: [sleep, "1000"]', 'command: [sleep, "1000"]\n    files: {/run/x: {template: x}}'
    )
    template = tmp_path / "x"
    template.write_text("one")
    stack = write_stack(text)
    world.orchestrator("up", "--supervise", stack=stack).ok()
    first = supervisor(world, stack=stack)
    template.write_text("two")
    world.orchestrator("up", "--supervise", stack=stack).ok()
    assert supervisor(world, stack=stack) not in (None, first)
    rows = world.orchestrator("status", "--json", stack=stack).json()["nodes"]
    # A fault elsewhere makes the supervisor look at everything.
    world.on_host("ip", "link", "set", "veth-crasher-br", "down").ok()
    log = world.state / f"loop@{world.host}" / "logs" / "supervisor.log"
    eventually(lambda: "healed veth:crasher" in log.read_text())
    again = world.orchestrator("status", "--json", stack=stack).json()["nodes"]
    assert [row["pid"] for row in again] == [row["pid"] for row in rows]
    assert "healed service:good" not in log.read_text()
    world.orchestrator("down", stack=stack).ok()


def test_down_ends_the_supervisor_first(world: World, write_stack: Callable[..., Path]) -> None:
    stack = write_stack((LOOP % "heal").replace("sleep 0.3; exit 3", "exec sleep 1000"))
    world.orchestrator("up", "--supervise", stack=stack).ok()
    pid = supervisor(world, stack=stack)
    assert pid is not None
    world.orchestrator("down", stack=stack).ok()
    assert run("ps", "-o", "stat=", "-p", str(pid)).out.strip() in ("", "Z", "Zs")
    assert world.sandboxes() == []


WEB = """
name: web
networks: {br-app: {address: 10.0.0.1/16}}
services:
  web:
    networks: {br-app: 10.0.0.10}
    command: [python, -m, http.server, "80"]
    readiness: {http: {port: 80, path: /}}
"""


@pytest.mark.parametrize(
    ("fault", "layer"),
    [
        ("ip neigh replace 10.0.0.10 lladdr 02:00:00:00:00:99 dev br-app", "neighbour"),  # nobody's
        ("ip route add blackhole 10.0.0.10/32", "route"),
        ("iptables -I OUTPUT 1 -d 10.0.0.10 -p tcp --dport 80 -j DROP", "rules"),
    ],
    ids=lambda each: each.split()[0],
)
def test_service_that_only_the_host_cannot_reach_is_told_of_and_left_alone(
    world: World, write_stack: Callable[..., Path], fault: str, layer: str
) -> None:
    """It answers in its own namespace: to make it anew would take it from those it serves."""
    stack = write_stack(WEB)
    world.orchestrator("up", "--supervise", stack=stack).ok()
    pids = world.sandbox_pids("web")
    world.on_host(*fault.split()).ok()
    log = world.state / f"web@{world.host}" / "logs" / "supervisor.log"
    told = "web answers in its own namespace, but not the host"
    eventually(lambda: told in log.read_text())
    for words in (("replay",), ("replay", "--dry-run")):
        replay = world.orchestrator(*words, stack=stack)
        assert (replay.code, replay.out) == (1, "")
        assert "nothing was touched" in replay.err
        assert f"first broken layer: {layer} of " in replay.err
    status = world.orchestrator("status", "--json", stack=stack).json()["nodes"]
    row = next(each for each in status if each["node"] == "service:web")
    assert row["state"] == "ready"
    assert "no answer to the host" in row["detail"]
    assert world.sandbox_pids("web") == pids
    assert log.read_text().count(told) == 1
