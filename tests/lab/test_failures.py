"""Everything that may go wrong: a clear error, no debris, and the next `up` works."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rig import World, eventually, run

Write = Callable[..., Path]

GOOD = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  web:
    networks: {br-app: 10.0.0.10}
    command: [python, -m, http.server, "80"]
    ports: ["8080:80"]
    readiness: {tcp: 80, http: {port: 80, path: /, contains: stack.yaml}}
    deadline: 10s
checks:
  front:
    gate: true
    deadline: 10s
    steps: [{url: "http://localhost:8080/", expect: {contains: stack.yaml}}]
"""

TWO = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  broken:
    networks: {br-app: 10.0.0.10}
    command: [%s]
    readiness: {%s}
    retry: {attempts: 2, backoff: 10ms}
    deadline: 2s
  needy:
    networks: {br-app: 10.0.0.20}
    command: [sleep, "1000"]
    needs: [broken]
  other:
    networks: {br-app: 10.0.0.30}
    command: [sleep, "1000"]
"""


@contextmanager
def unchanged(world: World) -> Iterator[None]:
    """The host is the same after the block as before it."""
    before = world.fingerprint()
    yield
    after = world.fingerprint()
    traces = {
        kind: {"gone": set(before[kind]) - set(now), "new": set(now) - set(before[kind])}
        for kind, now in after.items()
        if now != before[kind]
    }
    assert traces == {}


@contextmanager
def background(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_up_serves_and_down_leaves_the_host_as_it_was(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    with unchanged(world):
        world.orchestrator("up", stack=stack).ok()
        assert "stack.yaml" in world.curl("http://localhost:8080/").ok().out
        world.orchestrator("down", stack=stack).ok()


def test_up_twice_changes_nothing_and_says_so(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    world.orchestrator("up", stack=stack).ok()
    processes = world.orchestrator("status", "--json", stack=stack).json()
    again = world.orchestrator("up", stack=stack).ok()
    assert "already up" in again.out
    pids = [row["pid"] for row in processes["nodes"]]
    now = world.orchestrator("status", "--json", stack=stack).json()
    assert [row["pid"] for row in now["nodes"]] == pids


def test_down_twice_and_down_before_up_say_so(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    with unchanged(world):
        assert "nothing was up" in world.orchestrator("down", stack=stack).ok().out


def test_taken_port_is_named_with_its_owner(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    words = ["ip", "netns", "exec", world.host, "python3", "-m", "http.server", "8080"]
    with background(subprocess.Popen(words, text=True, stderr=subprocess.DEVNULL)):
        eventually(lambda: ":8080" in world.on_host("ss", "-ltn").out)
        with unchanged(world):
            failed = world.orchestrator("up", stack=stack)
        assert failed.code == 3
        assert re.search(r"port 8080 of this host is taken by \S+ \(pid \d+\)", failed.err)
        assert "mend:" in failed.err
    world.orchestrator("up", stack=stack).ok()


def test_port_that_a_foreign_rule_redirects_is_refused(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    rule = "PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.77.0.9:80"
    world.on_host("iptables", "-t", "nat", "-A", *rule.split()).ok()
    with unchanged(world):
        failed = world.orchestrator("up", stack=stack)
    assert failed.code == 3
    assert "10.77.0.9:80" in failed.err
    world.on_host("iptables", "-t", "nat", "-D", *rule.split()).ok()
    world.orchestrator("up", stack=stack).ok()


def test_subnet_that_the_host_routes_is_refused(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    world.on_host("ip", "route", "add", "10.0.64.0/18", "dev", "wan0").ok()
    with unchanged(world):
        failed = world.orchestrator("up", stack=stack)
    assert failed.code == 3
    assert "10.0.64.0/18 dev wan0" in failed.err
    world.on_host("ip", "route", "del", "10.0.64.0/18").ok()
    world.orchestrator("up", stack=stack).ok()


def test_missing_program_is_named_before_anything_is_changed(
    world: World, write_stack: Write
) -> None:
    stack = write_stack(GOOD.replace("[python, -m, http.server", "[no-such-program"))
    with unchanged(world):
        failed = world.orchestrator("up", stack=stack)
    assert failed.code == 3
    assert "no-such-program, which web runs, is not installed" in failed.err


def test_without_privileges_it_says_so(world: World) -> None:
    # The interpreter itself may lie where others cannot go, so the change comes after imports.
    code = (
        "import os, sys; from orchestrator.commands import run, look;"
        "from orchestrator import cli, known, stackfile;"
        "sys.argv[0] = 'orchestrator'; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "cli.main()"
    )
    with tempfile.TemporaryDirectory() as directory:
        stack = Path(directory, "stack.yaml")
        stack.write_text(GOOD)
        Path(directory).chmod(0o755)  # pytest's own directories are root's alone
        failed = run(sys.executable, "-c", code, *world.words("up", stack=stack)[3:])
    assert failed.code == 3
    assert "this needs root" in failed.err


def test_crash_at_start_shows_the_log_and_leaves_no_debris(
    world: World, write_stack: Write
) -> None:
    crash = 'sh, -c, "echo out of cheese >&2; exit 7"'
    stack = write_stack(TWO % (crash, "tcp: 80"))
    failed = world.orchestrator("up", stack=stack)
    assert failed.code == 1
    assert "service:broken failed after 2 attempts" in failed.err
    assert "exit code 7" in failed.err
    assert "| out of cheese" in failed.err
    assert "skipped, because they need it: service:needy" in failed.err
    states = world.node_states(stack=stack)
    assert states["service:broken"] == "failed"
    assert states["service:needy"] == "skipped"
    assert states["service:other"] == "ready"
    assert not [each for each in world.sandboxes() if "cheese" in each]

    write_stack(TWO % ('sleep, "1000"', ""))
    world.orchestrator("up", stack=stack).ok()
    assert set(world.node_states(stack=stack).values()) == {"ready"}


@pytest.mark.parametrize("who", ["itself", "supervisor"])
def test_replay_that_fails_ends_with_what_failed(
    world: World, write_stack: Write, who: str
) -> None:
    guarded = 'sh, -c, "[ ! -e /stack/no ] || exit 7; exec python -m http.server 80"'
    stack = write_stack(TWO % (guarded, "tcp: 80"))
    world.orchestrator("up", *(["--supervise"] if who == "supervisor" else []), stack=stack).ok()
    stack.with_name("no").touch()
    failed = world.orchestrator("replay", "broken", stack=stack)
    assert failed.code == 1
    assert "service:broken failed after 2 attempts" in failed.err
    last = failed.err.splitlines()[-1]
    assert last.startswith("not replayed (")
    assert "service:broken failed; `orchestrator replay --host-netns " in last
    assert "replayed" not in failed.out


def test_never_ready_ends_at_its_deadline_with_the_last_answer(
    world: World, write_stack: Write
) -> None:
    stack = write_stack(TWO % ('sh, -c, "echo waiting; exec sleep 1000"', "tcp: 80"))
    failed = world.orchestrator("up", stack=stack)
    assert failed.code == 1
    assert "not ready within its deadline of 2 s" in failed.err
    assert "last answer: tcp: " in failed.err
    assert "| waiting" in failed.err
    assert not [each for each in world.sandboxes() if "waiting" in each]


def test_notify_that_never_comes_is_named(world: World, write_stack: Write) -> None:
    stack = write_stack(TWO % ('sleep, "1000"', "notify: true"))
    failed = world.orchestrator("up", stack=stack)
    assert failed.code == 1
    assert "no READY=1 yet" in failed.err


def test_foreign_bridge_of_that_name_is_left_alone(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD.replace("br-app", "br-foreign"))
    before = world.fingerprint()["links"]
    failed = world.orchestrator("up", stack=stack)
    assert failed.code == 3
    assert "link br-foreign belongs to somebody else" in failed.err
    world.orchestrator("down", stack=stack).ok()
    assert world.fingerprint()["links"] == before


def test_foreign_namespace_of_that_name_is_left_alone(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    name = f"{world.host}.web"
    run("ip", "netns", "add", name).ok()
    try:
        with unchanged(world):
            failed = world.orchestrator("up", stack=stack)
            assert failed.code == 3
            assert f"namespace {name} belongs to somebody else" in failed.err
            assert "mend: remove it" in failed.err
            world.orchestrator("down", stack=stack).ok()
    finally:
        run("ip", "netns", "delete", name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_up_keeps_what_worked_and_the_next_one_finishes(
    world: World, write_stack: Write, number: signal.Signals
) -> None:
    stack = write_stack((TWO % ('sleep, "1000"', "tcp: 80")).replace("deadline: 2s", ""))
    with unchanged(world):
        with background(world.start("up", "--json", stack=stack)) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if '"GateChecked"' in line:
                    break
            process.send_signal(number)
            assert process.wait(timeout=30) == 130
        states = world.node_states(stack=stack)
        assert states["bridge:br-app"] == "ready"
        assert states["service:broken"] == "down" or states["service:broken"] == "cancelled"
        assert not [each for each in world.sandboxes() if "--hostname broken" in each]
        write_stack(TWO % ('sleep, "1000"', ""))
        world.orchestrator("up", stack=stack).ok()
        assert set(world.node_states(stack=stack).values()) == {"ready"}
        world.orchestrator("down", stack=stack).ok()


def test_killed_up_is_finished_by_the_next_and_undone_by_down(
    world: World, write_stack: Write
) -> None:
    stack = write_stack(GOOD)
    with unchanged(world):
        for after in ("bridge:", "netns:", "veth:", "service:", "check:"):
            with background(world.start("up", "--json", stack=stack)) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if "StepStarted" in line and after in line:
                        break
                process.kill()
            if after in ("netns:", "service:"):
                world.orchestrator("down", stack=stack).ok()
        world.orchestrator("up", stack=stack).ok()
        world.curl("http://localhost:8080/").ok()
        world.orchestrator("down", stack=stack).ok()


def test_second_run_at_once_is_told_who_is_busy(world: World, write_stack: Write) -> None:
    text = TWO % ('sleep, "1000"', "tcp: 80")
    stack = write_stack(text.replace("deadline: 2s", "deadline: 60s"))  # it must last
    with background(world.start("up", "--json", stack=stack)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for command in ("up", "down"):
            second = world.orchestrator(command, stack=stack)
            assert second.code == 4
            assert f"`up` with pid {process.pid}" in second.err
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


def test_changed_service_is_restarted_and_a_removed_one_is_taken_away(
    world: World, write_stack: Write
) -> None:
    text = TWO % ('sleep, "1000"', "")
    stack = write_stack(text)
    world.orchestrator("up", stack=stack).ok()
    before = world.orchestrator("status", "--json", stack=stack).json()["nodes"]
    pids = {row["node"]: row["pid"] for row in before if row["pid"]}

    without_other, _, _ = text.partition("  other:")
    write_stack(without_other.replace('[sleep, "1000"]', '[sleep, "2000"]', 1))
    assert "mend    service:broken" in world.orchestrator("plan", stack=stack).out
    world.orchestrator("up", stack=stack).ok()
    after = world.orchestrator("status", "--json", stack=stack).json()["nodes"]
    now = {row["node"]: row["pid"] for row in after if row["pid"]}
    assert now["service:needy"] == pids["service:needy"]
    assert now["service:broken"] != pids["service:broken"]
    assert f"{world.host}.other" not in run("ip", "netns", "list").out
    running = "\n".join(world.sandboxes())
    assert set(re.findall(r"--hostname (\S+)", running)) == {"broken", "needy"}
    assert running.count("--hostname broken") == 2  # its waiter and its pid 1, once


def test_service_lives_on_after_the_orchestrator_and_is_found_without_its_files(
    world: World, write_stack: Write
) -> None:
    stack = write_stack(GOOD)
    with unchanged(world):
        world.orchestrator("up", stack=stack).ok()
        run("rm", "-rf", world.state, world.run_dir / f"tiny@{world.host}").ok()
        web = world.sandbox_pids("web")
        assert web  # it lives
        assert world.node_states(stack=stack)["service:web"] == "drifted"  # its /etc went with them
        world.orchestrator("down", stack=stack).ok()
        assert world.sandboxes() == []


def test_moved_checkout_can_take_down_what_the_old_place_brought_up(
    world: World, write_stack: Write, tmp_path: Path
) -> None:
    stack = write_stack(GOOD)
    with unchanged(world):
        world.orchestrator("up", stack=stack).ok()
        moved = tmp_path / "elsewhere" / "stack.yaml"
        moved.parent.mkdir()
        stack.rename(moved)
        world.orchestrator("down", stack=moved).ok()


def test_forwarding_stays_when_somebody_came_to_need_it(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    world.on_host("sysctl", "-qw", "net.ipv4.ip_forward=0").ok()
    world.orchestrator("up", stack=stack).ok()
    world.on_host("ip", "link", "add", "docker0", "type", "bridge").ok()
    done = world.orchestrator("down", stack=stack).ok()
    assert "docker0 came up since" in done.out
    assert world.on_host("sysctl", "-n", "net.ipv4.ip_forward").out.strip() == "1"


def test_single_worker_comes_up_too(world: World, write_stack: Write) -> None:
    stack = write_stack(GOOD)
    world.orchestrator("up", "--max-workers", "1", stack=stack).ok()


def test_independent_nodes_overlap(world: World, write_stack: Write) -> None:
    """By the journal's own order, not by the clock: each begins before the other ends."""
    slow = 'sh, -c, "sleep 0.3; exec python -m http.server 80"'
    stack = write_stack((TWO % (slow, "tcp: 80")).replace("needs: [broken]", ""))
    text = stack.read_text().replace(
        'command: [sleep, "1000"]', f"command: [{slow}]\n    readiness: {{tcp: 80}}"
    )
    write_stack(text)
    out = world.orchestrator("up", "--json", stack=stack).ok().out
    order = [
        (kind, name)
        for line in out.splitlines()
        for name in ("broken", "needy", "other")
        for kind in ("StepStarted", "StepFinished")
        if f'"{kind}"' in line and f'"service:{name}"' in line
    ]
    assert {kind for kind, _ in order[:3]} == {"StepStarted"}
