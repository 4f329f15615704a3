"""The supervisor's control socket, asked by curl as a person would."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from names import next_name
from rig import Done, World, eventually, run

STACK = """
name: ctl
networks: {br-app: {address: 10.0.0.1/16}}
services:
  one: {networks: {br-app: 10.0.0.10}, layer: first, command: [sleep, "1000"]}
  two: {networks: {br-app: 10.0.0.20}, layer: second, command: [sleep, "1000"], needs: [one]}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stack") / "stack.yaml"
    path.write_text(STACK)
    path.parent.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, stack: Path) -> Iterator[World]:
    world = World.build(next_name(), tmp_path_factory.mktemp("control"))
    try:
        world.orchestrator("up", "--supervise", stack=stack).ok()
        yield world
    finally:
        world.orchestrator("down", "--volumes", stack=stack)
        world.remove()


def control(lab: World) -> Path:
    return lab.run_dir / f"ctl@{lab.host}" / "control.sock"


def ask(lab: World, path: str, *options: str) -> Done:
    socket = str(control(lab))
    return run("curl", "-sS", "-m", "30", "--unix-socket", socket, *options, f"http://lab{path}")


def lines(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.ok().out.splitlines()]


def test_status_is_what_the_command_prints(lab: World, stack: Path) -> None:
    served = ask(lab, "/status").json()
    printed = lab.orchestrator("status", "--json", stack=stack).json()
    still = ("node", "state", "pid", "address", "restarts")
    for one, other in zip(served["nodes"], printed["nodes"], strict=True):
        assert {key: one[key] for key in still} == {key: other[key] for key in still}
    assert served["supervisor"] == printed["supervisor"]


def test_replay_streams_radius_records_and_proof(lab: World) -> None:
    first, *records, last = lines(ask(lab, "/replay", "-d", '{"what": "second"}'))
    assert first["rebuilt"] == ["service:two"]
    assert records[0]["event"] == "RunStarted"
    assert records[-1]["event"] == "RunFinished"
    assert last["outcome"] == "changed"
    assert last["disturbed"] == []


def is_free(lock: Path) -> bool:
    """The answer is out a moment before the lab is let go."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("options", [(), ("--json",), ("--dry-run",)])
def test_command_has_the_supervisor_do_it_and_prints_the_same(
    lab: World, stack: Path, options: tuple[str, ...]
) -> None:
    """As it does by itself where the supervisor hangs, or knows another stack."""
    pid = lab.orchestrator("status", "--json", stack=stack).json()["supervisor"]

    def replayed() -> str:
        """What it printed, without numbers and in any order."""
        out = lab.orchestrator("replay", "second", *options, stack=stack).ok().out
        return "\n".join(sorted(re.sub(r"[-0-9a-f.]*[0-9][-0-9a-f.]*", "N", out).splitlines()))

    by_supervisor = replayed()
    lock = lab.run_dir / f".ctl@{lab.host}.lock"
    eventually(lambda: is_free(lock))  # nobody else could have it while its holder is stopped
    if "--dry-run" not in options:
        holder = lock.read_text()
        assert json.loads(holder)["pid"] == pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert replayed() == by_supervisor
    finally:
        os.kill(pid, signal.SIGCONT)
    text = stack.read_text()
    stack.write_text(f"{text}# the same, and yet another\n")
    try:
        assert replayed() == by_supervisor
    finally:
        stack.write_text(text)


def test_dry_run_touches_nothing(lab: World, stack: Path) -> None:
    before = lab.orchestrator("status", "--json", stack=stack).json()
    body = '{"what": "first", "dry_run": true}'
    (only,) = lines(ask(lab, "/replay", "-d", body))
    assert only["rebuilt"] == ["service:one"]
    after = lab.orchestrator("status", "--json", stack=stack).json()
    assert [row["pid"] for row in before["nodes"]] == [row["pid"] for row in after["nodes"]]


def test_events_stream_from_a_number_on_and_go_on(lab: World) -> None:
    words = ["curl", "-sSN", "-m", "60", "--unix-socket", str(control(lab))]
    with subprocess.Popen(
        [*words, "http://lab/events?after=3"], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert json.loads(reader.stdout.readline())["seq"] == 4
        ask(lab, "/replay", "-d", '{"what": "two"}').ok()
        for line in reader.stdout:
            record = json.loads(line)
            if record["event"] == "RunStarted" and record["command"] == "replay":
                break
        reader.terminate()


@pytest.mark.parametrize(
    ("path", "options", "status", "says"),
    [
        ("/replay", ["-d", "{"], 400, "not JSON"),
        ("/replay", ["-d", "[]"], 400, "must be a JSON object"),
        ("/replay", ["-d", '{"what": 7}'], 400, "what must be text"),
        ("/replay", ["-d", '{"layer": "x"}'], 400, "unknown member 'layer'"),
        ("/replay", ["-d", '{"what": "third"}'], 400, "no layer or node third"),
        ("/replay", ["-d", "x" * 5000], 413, ""),
        ("/replay?stack=another", ["-d", '{"what": "two"}'], 409, "the stack has changed"),
        ("/replay", [], 405, ""),
        ("/down", [], 405, ""),
        ("/events?after=x", [], 400, "number of a record"),
        ("/nothing", [], 404, ""),
        ("/down", ["-X", "PUT"], 405, ""),
        ("/down", ["-d", "{}", "-H", "Origin: http://evil.example"], 403, "browsers"),
        ("/status", ["-H", "Sec-Fetch-Site: cross-site"], 403, "browsers"),
    ],
)
def test_wrong_request_is_a_problem_and_changes_nothing(
    lab: World, path: str, options: list[str], status: int, says: str
) -> None:
    done = ask(lab, path, "-w", "\n%{http_code}", *options).ok()
    document, _, code = done.out.rpartition("\n")
    assert int(code) == status
    assert says in json.loads(document)["detail"]


READING = ("/status", "/events?after=999999999", "/path", "/traces", "/trace/last", "/metrics")


def test_reading_changes_nothing(lab: World, stack: Path) -> None:
    """By every path with GET: of the journal, the processes and the host."""

    def seen() -> tuple[object, ...]:
        rows = lab.orchestrator("status", "--json", stack=stack).json()["nodes"]
        journal = (lab.state / f"ctl@{lab.host}" / "journal.jsonl").read_bytes()
        return [(row["node"], row["pid"]) for row in rows], journal, lab.fingerprint()

    before = seen()
    for path in (*READING, "/replay", "/down", "/replay?what=one", "/down?volumes=true"):
        run("curl", "-sS", "-m", "1", "--unix-socket", str(control(lab)), f"http://lab{path}")
    assert seen() == before


def test_only_root_may_ask(lab: World) -> None:
    assert control(lab).stat().st_mode & 0o777 == 0o600
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = ["curl", "-sS", "-m", "5", "--unix-socket", str(control(lab)), "http://lab/status"]
    assert run(*words, *command).code != 0
    # Even where the file's mode does not keep them out, the kernel says who they are.
    opened = [control(lab), *control(lab).parents]
    modes = {path: path.stat().st_mode for path in opened}
    try:
        for path in opened[:-1]:
            path.chmod(modes[path] | 0o777)
        assert "user 65534 may not control" in run(*words, *command).ok().out
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_down_takes_the_lab_and_then_the_supervisor_away(
    world: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(STACK)
    before = world.fingerprint()
    world.orchestrator("up", "--supervise", stack=stack).ok()
    pid = world.orchestrator("status", "--json", stack=stack).json()["supervisor"]
    *_, last = lines(ask(world, "/down", "-X", "POST", "-d", '{"volumes": true}'))
    assert last == {"outcome": "changed", "failed": []}
    eventually(lambda: run("ps", "-o", "stat=", "-p", str(pid)).out.strip() in ("", "Z", "Zs"))
    assert world.fingerprint() == before
    assert not (world.state / f"ctl@{world.host}").exists()
