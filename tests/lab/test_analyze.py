"""`analyze` on real runs: what it says is what the journal's own times say."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drawings import assert_stands_alone, titles
from rig import World, eventually
from view import Look

Write = Callable[..., Path]
PHASES = {"dependency_wait", "slot_wait", "provision", "backoff", "readiness_wait"}
DELAY_NS = 700_000_000

STACK = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  slow:
    networks: {br-app: 10.0.0.10}
    command:
      - python
      - -c
      - |
        import http.server, time
        time.sleep(0.7)
        http.server.test(port=80)
    data: [/data]
    readiness: {tcp: 80}
    needs: [flaky]
jobs:
  flaky:
    of: slow
    network: false
    command:
      - sh
      - -c
      - tries=$(cat /data/tries || echo 0); echo $((tries + 1)) > /data/tries; [ "$tries" -ge 2 ]
    retry: {attempts: 3, backoff: 50ms}
"""


def journal(world: World, name: str) -> list[dict[str, Any]]:
    """The raw lines of the lab's journal."""
    path = world.state / f"{name}@{world.host}" / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def nodes(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["node"]: node for node in document["nodes"]}


def assert_whole(blame: dict[str, Any], chain: dict[str, Any]) -> None:
    """Phases add up to spans, and the chain to the wall time, to the nanosecond."""
    for node in blame["nodes"]:
        assert set(node["phases"]) == PHASES
        assert sum(node["phases"].values()) == node["span_ns"] <= blame["wall_ns"]
    links = sum(link["end_ns"] - link["start_ns"] for link in chain["links"])
    assert links + chain["hand_over_ns"] + chain["tail_ns"] == blame["wall_ns"]
    critical = {node["node"] for node in blame["nodes"] if node["critical"]}
    assert {link["node"] for link in chain["links"]} == critical
    slacks = {node["slack_ns"] for node in blame["nodes"] if node["critical"]}
    assert slacks == ({0} if blame["outcome"] else {None})


def test_a_delay_and_failed_attempts_stand_in_their_phases(
    world: World, write_stack: Write
) -> None:
    stack = write_stack(STACK)
    world.orchestrator("up", stack=stack).ok()
    blame = world.orchestrator("analyze", "blame", "--json", stack=stack).json()
    chain = world.orchestrator("analyze", "critical-chain", "--json", stack=stack).json()
    assert_whole(blame, chain)
    run = [line for line in journal(world, "tiny") if line["run"] == blame["run"]]

    def at(event: str, node: str, attempt: int) -> int:
        wanted = {"event": event, "node": node, "attempt": attempt}
        return next(line["mono_ns"] for line in run if wanted.items() <= line.items())

    slow = nodes(blame)["service:slow"]
    assert [each["outcome"] for each in slow["attempts"]] == ["ok"]
    provisioned = at("StepProvisioned", "service:slow", 1)
    assert slow["phases"]["readiness_wait"] == at("StepFinished", "service:slow", 1) - provisioned
    assert slow["phases"]["provision"] == provisioned - at("SlotTaken", "service:slow", 1)
    assert slow["own_ns"] >= DELAY_NS  # its program may sleep before its start is told
    assert slow["released_by"] == "job:flaky"
    assert {"probe": "tcp", "passed": True, "answers": 1} in slow["probes"]

    flaky = nodes(blame)["job:flaky"]
    assert [each["outcome"] for each in flaky["attempts"]] == ["error", "error", "ok"]
    assert ["exit code 1" in each["reason"] for each in flaky["attempts"]] == [True, True, False]
    retried = [line for line in run if line["event"] == "StepRetried"]
    told_ns = sum(round(line["delay_s"] * 1e9) for line in retried)
    backoff_ns = flaky["phases"]["backoff"]
    assert backoff_ns >= told_ns - 2 * 500_000  # the journal has milliseconds, rounded
    assert backoff_ns == sum(
        at("StepQueued", "job:flaky", number + 1) - at("StepRetried", "job:flaky", number)
        for number in (1, 2)
    )
    assert [link["node"] for link in chain["links"]][-2:] == ["job:flaky", "service:slow"]

    text = world.orchestrator("analyze", "blame", stack=stack).ok().out
    assert "job:flaky (3 attempts)" in text
    shorter = world.orchestrator(
        "analyze", "what-if", "slow.readiness_wait=-500ms", "--json", stack=stack
    ).json()
    wait_ns = min(slow["phases"]["readiness_wait"], 500_000_000)
    assert shorter["change_ns"] == -wait_ns

    second = world.orchestrator("up", "--supervise", stack=stack).ok()
    assert "already up" in second.out
    look = Look(world.on_host("curl", "-sf", "http://127.0.0.1:9464/metrics").ok().out)
    for node in (slow, flaky):
        for phase, phase_ns in node["phases"].items():
            if phase_ns:
                labels = {"operation": "up", "node": node["node"], "phase": phase}
                assert look.value("node_phase_last_seconds", **labels) == phase_ns / 1e9
    for outcome, count in (("error", 2), ("ok", 2)):  # the second up is an attempt, too
        attempts = look.value("node_attempts_total", node="job:flaky", outcome=outcome)
        assert attempts == count
    assert look.value("node_backoff_seconds_total", node="job:flaky") == backoff_ns / 1e9
    known = world.orchestrator("analyze", "runs", "--json", stack=stack).json()
    assert [(each["command"], each["outcome"]) for each in known] == [
        ("up", "changed"),
        ("up", "unchanged"),
    ]
    difference = world.orchestrator(
        "analyze", "diff", *(each["run"] for each in known), "--json", stack=stack
    ).json()
    assert difference["nodes"][0]["node"] in ("service:slow", "job:flaky")
    assert difference["change_ns"] == known[1]["wall_ns"] - known[0]["wall_ns"]
    changed = nodes(difference)["job:flaky"]
    assert changed["change"]["backoff"] == -backoff_ns


def test_a_killed_run_shows_what_was_open(world: World, write_stack: Write) -> None:
    stack = write_stack(STACK.replace("sleep(0.7)", "sleep(1000)"))
    running = world.start("up", stack=stack)

    def is_probing() -> bool:
        path = world.state / f"tiny@{world.host}" / "journal.jsonl"
        text = path.read_text() if path.exists() else ""
        return '"StepProvisioned","node":"service:slow"' in text

    eventually(is_probing)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    blame = world.orchestrator("analyze", "blame", "--json", stack=stack).json()
    chain = world.orchestrator("analyze", "critical-chain", "--json", stack=stack).json()
    assert_whole(blame, chain)
    slow = nodes(blame)["service:slow"]
    assert (blame["outcome"], slow["outcome"]) == (None, None)
    assert [each["outcome"] for each in slow["attempts"]] == ["open"]
    last = slow["attempts"][-1]["segments"][-1]
    assert (last["phase"], last["open"]) == ("readiness_wait", True)
    assert chain["links"][-1]["node"] == "service:slow"
    text = world.orchestrator("analyze", "blame", stack=stack).ok().out
    assert "service:slow (still in readiness_wait)" in text
    picture = world.orchestrator("analyze", "plot", stack=stack).ok().out
    assert "still in readiness_wait" in picture
    refused = world.orchestrator("analyze", "what-if", "slow=+1s", stack=stack)
    assert (refused.code, refused.out) == (2, "")


def test_the_shops_last_up_is_explained(shop: World, tmp_path: Path) -> None:
    blame = shop.orchestrator("analyze", "blame", "--json").json()
    chain = shop.orchestrator("analyze", "critical-chain", "--json").json()
    assert blame["command"] == "up"
    assert_whole(blame, chain)
    text = shop.orchestrator("analyze", "critical-chain").ok().out
    *_, before, last = [link["node"] for link in chain["links"]]
    assert text.index(f"{last} @") < text.index(f"{before} @")

    played = shop.orchestrator("analyze", "what-if", "--json").json()
    rest_ns = chain["hand_over_ns"] + chain["tail_ns"] + chain["slot_wait_ns"]
    assert 0 <= blame["wall_ns"] - played["replayed_wall_ns"] <= rest_ns
    assert played["change_ns"] == 0
    slowed = shop.orchestrator("analyze", "what-if", f"{last}=+2s", "--json").json()
    # Without the hand-overs another node may have been the last by so much.
    assert 2_000_000_000 - rest_ns <= slowed["change_ns"] <= 2_000_000_000
    narrow = shop.orchestrator("analyze", "what-if", "--max-workers", "1").ok().out
    assert "with 1 workers" in narrow

    file = tmp_path / "up.svg"
    shop.orchestrator("analyze", "plot", "-o", file).ok()
    picture = file.read_text()
    assert picture == shop.orchestrator("analyze", "plot", "--run", blame["run"]).ok().out
    assert_stands_alone(picture)
    for name in nodes(blame):
        assert any(title.startswith(f"{name}: ") for title in titles(picture))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["blame", "--run", "nothing-like-it"], "unknown run"),
        (["blame", "--command", "dance"], "no run of 'dance' is recorded"),
        (["what-if", "postgres-db"], "cannot read 'postgres-db'"),
        (["what-if", "postgres-db=soon"], "write NODE=200ms"),
        (["what-if", "mysql=1s"], "unknown node mysql"),
        (["diff", "2", "nothing-like-it"], "run"),
    ],
)
def test_wrong_use_is_told(shop: World, words: list[str], why: str) -> None:
    done = shop.orchestrator("analyze", *words)
    assert (done.code, done.out) == (2, "")
    assert why in done.err


def test_without_a_journal_there_is_nothing_to_analyze(world: World) -> None:
    for words in (["blame"], ["runs"], ["diff", "a", "b"]):
        done = world.orchestrator("analyze", *words)
        assert done.code == 2
        assert "there is no journal" in done.err
