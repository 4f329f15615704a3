"""Other platforms from other stack files, without a line of code."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rig import World

Write = Callable[..., Path]

TWO_BRIDGES = """
name: pair
networks:
  br-front: {address: 10.0.0.1/24}
  br-back: {address: 10.0.1.1/24, masquerade: false}
services:
  web:
    networks: {br-front: 10.0.0.10}
    command: [python, -m, http.server, "80"]
    ports: ["8080:80"]
    readiness: {tcp: 80}
    needs: {both: started}
  side:                      # joins web's namespace, as a container joins a pod
    namespace: web
    command: [python, -m, http.server, "81", --bind, 127.0.0.1]
  both:
    networks: {br-front: 10.0.0.20, br-back: 10.0.1.20}
    command: [python, -m, http.server, "80"]
    readiness: {tcp: 80}
  store:
    namespace: vault
    networks: {br-back: {address: 10.0.1.30, interface: eth0}}
    command: [python, -m, http.server, "80"]
    ports: ["8081:80"]
    readiness: {tcp: 80}
  bare:
    networks: {br-back: 10.0.1.40}
jobs:
  first: {of: both, command: [sh, -c, "echo first"]}
  second: {of: both, command: [sh, -c, "echo second"], needs: [first, both]}
"""


def test_two_bridges_shared_namespaces_and_job_chains(world: World, write_stack: Write) -> None:
    stack = write_stack(TWO_BRIDGES)
    world.orchestrator("up", stack=stack).ok()
    assert set(world.node_states(stack=stack).values()) == {"ready"}

    # Networks are apart; who is on both reaches both, and is known by the right address.
    world.inside("web", "ping", "-c", "1", "both").ok()
    assert "10.0.1.20" in world.inside("vault", "ping", "-c", "1", "both").ok().out
    assert world.inside("web", "ping", "-c", "1", "-W", "1", "10.0.1.30").code != 0
    world.inside("both", "ping", "-c", "1", "store").ok()

    # Whatever comes after the node is the command's, also what looks like an option of ours.
    words = ("exec", "both", "sh", "-c", 'echo "$@"', "-", "-s", "x", "--debug", "--help")
    assert world.orchestrator(*words, stack=stack).ok().out == "-s x --debug --help\n"
    world.inside("bare", "ping", "-c", "1", "store").ok()

    # Published ports are for everybody, from the other network too.
    for port in (8080, 8081):
        world.curl(f"http://localhost:{port}/", "-f").ok()
        world.curl(f"http://203.0.113.2:{port}/", "-f", where="outside").ok()
    world.curl("http://10.0.1.1:8080/", "-f", where="vault").ok()
    world.curl("http://10.0.0.1:8081/", "-f", where="web").ok()

    # masquerade: false is no way out; the other network has one.
    world.inside("web", "ping", "-c", "1", "203.0.113.1").ok()
    assert world.inside("vault", "ping", "-c", "1", "-W", "1", "203.0.113.1").code != 0

    # Two programs in one namespace share its loopback.
    world.curl("http://127.0.0.1:81/", "-f", where="web").ok()
    out = world.orchestrator("logs", "first", "second", stack=stack).ok().out
    assert "first  | first" in out
    assert "second | second" in out
    world.orchestrator("down", stack=stack).ok()


NEIGHBOURS = """
name: neighbours
networks: {br-app: {address: 10.0.0.1/24}}
services:
  one: {networks: {br-app: 10.0.0.10}}
  two: {networks: {br-app: 10.0.0.20}}
"""


def test_frames_between_services_pass_no_iptables_of_a_host_that_the_lab_has_made(
    world: World, write_stack: Write
) -> None:
    stack = write_stack(NEIGHBOURS)
    own = replace(world, host=f"{world.host}-own")
    try:
        own.orchestrator("up", stack=stack).ok()
        own.on_host("iptables", "-I", "FORWARD", "-j", "DROP").ok()
        own.inside("one", "ping", "-c", "1", "-W", "2", "two").ok()
    finally:
        own.orchestrator("down", stack=stack).ok()
    assert not Path("/run/netns", own.host).exists()


def test_fifty_services_come_up_and_reach_each_other(world: World, write_stack: Write) -> None:
    names = [f"svc-{number}" for number in range(50)]
    lines = ["name: fifty", "networks: {br-app: {address: 10.0.0.1/16}}", "services:"]
    lines += [
        f"  {name}: {{networks: {{br-app: 10.0.1.{number + 1}}}, command: [sleep, '1000']}}"
        for number, name in enumerate(names)
    ]
    stack = write_stack("\n".join(lines))
    world.orchestrator("up", stack=stack).ok()
    pairs = list(itertools.pairwise([*names, names[0]]))
    with ThreadPoolExecutor(8) as pool:
        codes = pool.map(
            lambda pair: world.inside(pair[0], "ping", "-c", "1", "-W", "5", pair[1]).code, pairs
        )
    assert set(codes) == {0}
    world.orchestrator("down", stack=stack).ok()
    assert world.sandboxes() == []


def test_directories_may_be_given_from_where_one_stands(
    world: World, write_stack: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = write_stack(TWO_BRIDGES.partition("jobs:")[0])
    monkeypatch.chdir(world.state.parent)
    near = replace(world, state=Path("near/state"), run_dir=Path("near/run"))
    near.orchestrator("up", "--supervise", stack=stack).ok()
    assert set(near.node_states(stack=stack).values()) == {"ready"}
    near.orchestrator("down", "--volumes", stack=stack).ok()


def test_state_directory_that_was_named_stays_without_what_is_the_labs(
    world: World, write_stack: Write
) -> None:
    stack = write_stack(
        "name: bare\nnetworks: {br-app: {address: 10.0.0.1/16}}\n"
        "services: {box: {networks: {br-app: 10.0.0.10}}}\n"
    )
    world.state.mkdir(mode=0o750)
    world.orchestrator("up", stack=stack).ok()
    assert list(world.state.iterdir()) == [world.state / f"bare@{world.host}"]
    world.orchestrator("down", "--volumes", stack=stack).ok()
    assert list(world.state.iterdir()) == []
    assert world.state.stat().st_mode & 0o7777 == 0o750
