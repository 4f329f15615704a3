"""`why` above the network: descriptors, accept queues, full disks, wrong answers, jobs, drift."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from names import next_name
from rig import World, eventually, run
from warm import Warm

from orchestrator.linux import inside

# Each program is brought into its state by a request.
PROGRAM = """
import http.server, os, resource, socket, sys, time
mode, port = sys.argv[1], int(sys.argv[2])
if mode == "deaf":
    listener = socket.create_server(("0.0.0.0", port), backlog=1)
    while listener.accept()[0].recv(1) != b"x":
        pass
    time.sleep(100000)

class Handler(http.server.BaseHTTPRequestHandler):
    broken = False
    held = []
    def do_GET(self):
        if self.path == "/break":
            Handler.broken = True
        if self.path == "/break" and mode == "spender":
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
            try:
                while True:
                    self.held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                time.sleep(100000)
        self.send_response(503 if Handler.broken else 200)
        self.end_headers()
        self.wfile.write(b"fine")
http.server.HTTPServer(("0.0.0.0", port), Handler).serve_forever()
"""

STACK = """
name: states
networks: {br-app: {address: 10.0.0.1/16}}
services:
  deaf:
    networks: {br-app: 10.0.0.10}
    command: [python, /stack/program.py, deaf, "80"]
    readiness: {tcp: 80}
  spender:
    networks: {br-app: 10.0.0.20}
    command: [python, /stack/program.py, spender, "80"]
    readiness: {http: {port: 80, path: /}}
  liar:
    networks: {br-app: 10.0.0.30}
    command: [python, /stack/program.py, liar, "80"]
    readiness: {http: {port: 80, path: /}}
  writer:
    networks: {br-app: 10.0.0.40}
    command: [sleep, "1000"]
    data: [/data]
  client:
    networks: {br-app: 10.0.0.50}
    command: [sleep, "1000"]
    needs: [liar, prepare]
jobs:
  prepare:
    of: writer
    command: ["true"]
"""


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    found = Warm()
    yield found
    found.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("states")
    directory.chmod(0o755)
    (directory / "program.py").write_text(PROGRAM)
    path = directory / "stack.yaml"
    path.write_text(STACK)
    return path


@pytest.fixture(scope="module")
def lab(stack: Path) -> Iterator[World]:
    """Up, with the writer's data on a small file system of its own."""
    world = World.build(next_name(), stack.parent)
    data = world.state / f"states@{world.host}" / "data" / "writer" / "data"
    data.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", data).ok()
    try:
        world.orchestrator("up", stack=stack).ok()
        yield world
    finally:
        world.orchestrator("down", stack=stack)
        run("umount", data)
        world.orchestrator("down", "--volumes", stack=stack)
        world.remove()


Why = Callable[[str], dict[str, Any]]


@pytest.fixture
def why(lab: World, stack: Path, warm: Warm) -> Why:
    def ask(name: str) -> dict[str, Any]:
        answer = warm.run(lab.words("why", "--json", *filter(None, [name]), stack=stack))[0]
        assert answer.code in (0, 1), answer.text
        found: dict[str, Any] = answer.json_of_failure()
        assert found["well"] is (answer.code == 0)
        return found

    return ask


def first(found: dict[str, Any]) -> dict[str, Any]:
    assert found["first_broken"] is not None, found
    return dict(found["first_broken"])


def mend(lab: World, stack: Path, warm: Warm, name: str) -> None:
    warm.run(lab.words("replay", name, stack=stack))[0].ok()


def test_all_kinds_of_programs_are_well(why: Why) -> None:
    assert why("")["first_broken"] is None


def test_full_accept_queue_is_named_and_not_the_network(
    lab: World, stack: Path, warm: Warm, why: Why
) -> None:
    lab.on_host("bash", "-c", "echo -n x >/dev/tcp/10.0.0.10/80").ok()
    with ExitStack() as held:
        for _ in range(4):
            with inside(Path("/run/netns", lab.host)):
                channel = held.enter_context(socket.socket())
            channel.setblocking(False)
            channel.connect_ex(("10.0.0.10", 80))
        # A connection that the queue had no room for is asked for again after a second.
        eventually(lambda: why("deaf")["first_broken"] is not None)
        found = first(why("deaf"))
        assert (found["layer"], found["node"]) == ("listener", "service:deaf")
        assert "accept queue of port 80 is full: 2 wait, 1 may" in found["evidence"]
    mend(lab, stack, warm, "deaf")


def test_exhausted_file_descriptors_are_named_with_their_limit(
    lab: World, stack: Path, warm: Warm, why: Why
) -> None:
    lab.curl("http://10.0.0.20/break", "-m", "1")  # it never comes to an answer

    def is_named() -> bool:
        found = first(why("spender"))
        return "no file descriptor left: 40 of 40 in use" in found["evidence"]

    eventually(is_named)
    found = first(why("spender"))
    assert (found["layer"], found["node"]) == ("listener", "service:spender")
    assert run("bash", "-c", found["command"]).ok().out.strip() == "40"
    mend(lab, stack, warm, "spender")


def test_wrong_answer_is_named_as_the_deepest_cause(
    lab: World, stack: Path, warm: Warm, why: Why
) -> None:
    lab.curl("http://10.0.0.30/break").ok()
    for name in ("liar", "client", ""):
        found = why(name)
        cause = first(found)
        assert (cause["layer"], cause["node"]) == ("http", "service:liar")
        assert "503" in cause["evidence"]
    assert why("client")["chain"] == ["service:client", "service:liar"]
    mend(lab, stack, warm, "liar")


def test_full_disk_is_named_with_its_directory(lab: World, why: Why) -> None:
    data = lab.state / f"states@{lab.host}" / "data" / "writer" / "data"
    filler = data / "filler"
    assert run("dd", "if=/dev/zero", f"of={filler}", "bs=64k").code != 0
    try:
        found = first(why("writer"))
        assert (found["layer"], found["node"]) == ("query", "service:writer")
        assert f"{data} is full" in found["evidence"]
        assert "100%" in run("bash", "-c", found["command"]).ok().out
    finally:
        filler.unlink()
    assert why("writer")["well"]


def test_changed_configuration_is_drift_and_something_broken_goes_before_it(
    lab: World, stack: Path, warm: Warm, why: Why
) -> None:
    text = stack.read_text()
    stack.write_text(text.replace('[sleep, "1000"]\n    needs', '[sleep, "2000"]\n    needs'))
    try:
        found = why("client")
        drift = first(found)
        assert (drift["node"], drift["verdict"]) == ("service:client", "drift")
        assert "its configuration has changed" in drift["evidence"]
        lab.on_host("ip", "link", "set", "veth-client-br", "down").ok()
        found = why("client")
        assert (first(found)["layer"], first(found)["verdict"]) == ("link", "broken")
        assert [each["verdict"] for each in found["also_broken"]] == ["drift"]
        lab.on_host("ip", "link", "set", "veth-client-br", "up").ok()
    finally:
        stack.write_text(text)
    eventually(lambda: bool(why("client")["well"]))


def test_job_that_failed_is_named_with_its_log(lab: World, stack: Path, why: Why) -> None:
    """`up` gave up: what needs the job was never started, and the job is the cause."""
    text = stack.read_text()
    failing = '[sh, -c, "echo out of cheese >&2; exit 3"]\n    retry: {attempts: 1}'
    stack.write_text(text.replace('["true"]', failing))
    try:
        lab.kill("client")
        assert lab.orchestrator("up", stack=stack).code == 1
        found = why("client")
        assert (first(found)["layer"], first(found)["node"]) == ("job", "job:prepare")
        assert "out of cheese" in "\n".join(first(found)["details"])
        assert found["chain"] == ["service:client", "job:prepare"]
    finally:
        stack.write_text(text)
    lab.orchestrator("up", stack=stack).ok()


def test_rule_that_swallows_everything_is_named_with_what_takes_it_away(
    lab: World, why: Why
) -> None:
    rule = ["INPUT", "-p", "tcp", "-j", "DROP"]
    lab.inside("liar", "iptables", "-I", *rule).ok()
    try:
        found = first(why(""))
    finally:
        lab.inside("liar", "iptables", "-D", *rule).ok()
    assert (found["layer"], found["node"]) == ("rules", "netns:liar")
    assert "iptables -t filter -D INPUT -p tcp -j DROP" in found["mend"]


def test_nothing_up_is_said(world: World) -> None:
    answer = world.orchestrator("why")
    assert answer.code == 1
    assert "mend: orchestrator up --host-netns " in answer.out


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
    readiness: {tcp: 80, http: {port: 80, path: /}}
    needs: [both]
  side:
    namespace: web
    command: [python, -m, http.server, "81", --bind, 127.0.0.1]
  both:
    networks: {br-front: 10.0.0.20, br-back: 10.0.1.20}
    command: [python, -m, http.server, "80", --bind, 10.0.0.20]
    readiness: {tcp: 80}
    needs: [store]
  store:
    namespace: vault
    networks: {br-back: {address: 10.0.1.30, interface: eth0}}
    command: [python, -m, http.server, "80"]
    readiness: {tcp: 80}
  bare:
    networks: {br-back: 10.0.1.40}
"""


def test_two_networks_and_shared_namespaces(
    world: World, warm: Warm, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(TWO_BRIDGES)
    world.orchestrator("up", stack=stack).ok()

    def named(name: str) -> tuple[str, str] | None:
        answer = warm.run(world.words("why", "--json", *filter(None, [name]), stack=stack))[0]
        found = json.loads(answer.out)["first_broken"]
        return found and (found["layer"], found["node"])

    everyone = ("web", "side", "both", "store", "netns:bare", "br-back", "")
    assert {name: named(name) for name in everyone} == dict.fromkeys(everyone)

    # A link is down: who is on the other network alone does not feel it.
    world.on_host("ip", "link", "set", "veth-both1-br", "down").ok()
    culprit = ("link", "veth:both.br-back")
    feel = {"web": culprit, "both": culprit, "": culprit, "store": None, "netns:bare": None}
    assert {name: named(name) for name in feel} == feel
    world.on_host("ip", "link", "set", "veth-both1-br", "up").ok()

    # The way from web to the store is through `both`, whose caller side is the host's too.
    world.inside("vault", "ip", "link", "set", "eth0", "down").ok()
    assert named("web") == named("store") == ("link", "veth:vault")
    world.inside("vault", "ip", "link", "set", "eth0", "up").ok()
