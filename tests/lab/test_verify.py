"""`verify` proves a platform that works, and names exactly what does not."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from names import next_name
from rig import World, eventually, run

STACK = """
name: pair
networks: {br-pair: {address: 10.9.0.1/24}}
services:
  web:
    networks: {br-pair: 10.9.0.10}
    command: [python, -m, http.server, "80"]
    ports: ["8080:80"]
    readiness: {http: {port: 80, path: /, contains: stack.yaml}}
  cache:
    networks: {br-pair: 10.9.0.20}
    command: [python, -m, http.server, "6379"]
    readiness: {tcp: 6379}
checks:
  flow:
    title: two requests
    steps:
      - {url: "http://localhost:8080/", expect: {contains: stack.yaml}}
      - {url: "http://10.9.0.1:8080/stack.yaml"}
"""
LINK = "veth-outside"

# What fails when nothing reaches the cache any more, whatever the cause.
CUT_OFF = {
    ("ping", "web → cache"),
    ("ping", "cache → web"),
    ("name", "web → cache"),
    ("name", "cache → web"),
    ("service", "cache"),
    ("published", "8080 from cache"),
}
NO_WAY_OUT = {("outbound", "cache ping"), ("outbound", "cache tcp")}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[World]:
    """Two services on a private host without any uplink."""
    tmp_path.chmod(0o755)
    (tmp_path / "stack.yaml").write_text(STACK)
    name = next_name()
    world = World(name, f"{name}-none", tmp_path / "state", tmp_path / "run")
    try:
        world.orchestrator("up", stack=tmp_path / "stack.yaml").ok()
        yield world
    finally:
        world.orchestrator("down", "--volumes", stack=tmp_path / "stack.yaml")
        run("ip", "netns", "delete", name)


def stack_of(world: World) -> Path:
    return world.state.parent / "stack.yaml"


def verify(world: World, *options: str) -> tuple[int, dict[tuple[str, str], Any]]:
    """Exit code, and each row by its group and name."""
    done = world.orchestrator("verify", "--json", *options, stack=stack_of(world))
    assert done.err == ""
    rows = run_json(done.out)["rows"]
    found = {(row["group"], row["name"]): row for row in rows}
    assert len(found) == len(rows), "a row's name must be its own"
    return done.code, found


def run_json(text: str) -> Any:
    return json.loads(text)


def failing(rows: dict[tuple[str, str], Any]) -> set[tuple[str, str]]:
    return {name for name, row in rows.items() if not row["passed"]}


def links(world: World) -> list[str]:
    return world.on_host("ip", "-br", "link").ok().out.split()


def test_working_platform_is_proven_whole(pair: World) -> None:
    before = pair.fingerprint()
    code, rows = verify(pair, "--outside")
    assert (code, failing(rows)) == (0, set()), rows
    assert {group for group, _ in rows} == {
        *("namespace", "loopback", "address", "route", "bridge", "port", "ping", "name"),
        *("service", "published", "outbound", "check"),
    }
    assert rows["outbound", "web tcp"]["evidence"] == "seen outside as 203.0.113.1"
    assert [line[-5:] for line in rows["check", "flow"]["details"]] == ["→ 200", "→ 200"]
    sides = {name.removeprefix("8080 from ") for group, name in rows if group == "published"}
    assert sides == {"localhost", "the host by 10.9.0.1", "web", "cache", "outside"}
    assert pair.fingerprint() == before


def test_commands_that_are_shown_work(pair: World) -> None:
    _, rows = verify(pair)
    for row in rows.values():
        if row["group"] in ("namespace", "address", "route", "bridge", "port", "ping", "name"):
            assert run("bash", "-c", row["command"]).code == 0, row["command"]


def test_table_has_a_line_for_each_row_and_a_sum(pair: World) -> None:
    done = pair.orchestrator("verify", stack=stack_of(pair))
    first, *_, last = done.out.splitlines()
    assert first.startswith("ok    namespace")
    assert " proven in " in last


def test_missing_address_fails_its_rows_and_no_others(pair: World) -> None:
    _, healthy = verify(pair, "--outside")
    run("ip", "-n", f"{pair.host}.cache", "address", "flush", "dev", "veth-cache").ok()
    code, rows = verify(pair, "--outside")
    wanted = {*CUT_OFF, *NO_WAY_OUT, ("address", "cache veth-cache"), ("route", "cache")}
    wanted.add(("name", "cache"))  # getaddrinfo(3), AI_ADDRCONFIG: no address, no answers
    assert (code, failing(rows) - failing(healthy)) == (1, wanted)
    pair.orchestrator("up", stack=stack_of(pair)).ok()
    assert failing(verify(pair, "--outside")[1]) == failing(healthy)


def test_port_that_is_down_fails_its_rows_and_no_others(pair: World) -> None:
    _, healthy = verify(pair)
    pair.on_host("ip", "link", "set", "veth-cache-br", "down").ok()
    code, rows = verify(pair)
    wanted = {*CUT_OFF, ("port", "br-pair veth-cache-br")}
    assert (code, failing(rows) - failing(healthy)) == (1, wanted)


def test_check_tells_how_far_it_came(pair: World) -> None:
    path = stack_of(pair)
    path.write_text(STACK.replace("8080/stack.yaml", "8080/no-such-page"))
    code, rows = verify(pair)
    assert (code, rows["check", "flow"]["passed"]) == (1, False)
    first, second = rows["check", "flow"]["details"]
    assert first.endswith("→ 200")
    assert "→ 404, wanted 200" in second


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_verify_leaves_no_outside(pair: World, number: signal.Signals) -> None:
    before = pair.fingerprint()
    pair.on_host("ip", "link", "set", "veth-cache-br", "down").ok()  # keeps it waiting there
    process = pair.start("verify", "--outside", stack=stack_of(pair))
    try:
        eventually(lambda: LINK in " ".join(links(pair)))
        process.send_signal(number)
        code = process.wait(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert code == (-9 if number is signal.SIGKILL else 130)
    eventually(lambda: LINK not in " ".join(links(pair)))
    pair.on_host("ip", "link", "set", "veth-cache-br", "up").ok()
    eventually(lambda: pair.fingerprint() == before)


def test_outside_is_refused_where_its_addresses_are_in_use(pair: World) -> None:
    pair.on_host("ip", "link", "add", "uplink", "type", "bridge").ok()
    pair.on_host("ip", "address", "add", "203.0.113.9/28", "dev", "uplink").ok()
    pair.on_host("ip", "link", "set", "uplink", "up").ok()
    done = pair.orchestrator("verify", "--outside", stack=stack_of(pair))
    assert done.code == 3
    assert "203.0.113.0/24 is already routed here (203.0.113.0/28 dev uplink)" in done.err
    assert LINK not in " ".join(links(pair))


def test_foreign_link_of_that_name_is_not_touched(pair: World) -> None:
    pair.on_host("ip", "link", "add", LINK, "type", "bridge").ok()
    done = pair.orchestrator("verify", "--outside", stack=stack_of(pair))
    assert done.code == 3
    assert f"link {LINK} exists and belongs to somebody else" in done.err
    assert LINK in links(pair)


def test_rows_appear_while_others_are_waited_for(pair: World) -> None:
    pair.on_host("ip", "link", "set", "veth-cache-br", "down").ok()
    process = pair.start("verify", stack=stack_of(pair))
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()  # while it asks; once it only prints, this would kill it
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert first.startswith("ok    namespace")
    assert (process.returncode, " proven in " in rest) == (130, False)
