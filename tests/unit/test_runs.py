"""Recorded runs: found by little reading, chosen by name, compared, and in numbers for export."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from timed import Journey

from orchestrator.commands.analyze import analyze as analyze_group
from orchestrator.errors import UsageError
from orchestrator.events import GateChecked, Record, decode, encode
from orchestrator.sights import runs
from orchestrator.sights.compare import compare
from orchestrator.sights.critical import critical_chain, slack
from orchestrator.sights.phases import Phase, fold
from orchestrator.sights.timings import last_times, times

TWO = Journey({"a": {}, "b": {}}, {"a": [3], "b": [4, 2]}, {"a": 1, "b": 0})


STACK = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  one: {networks: {br-app: 10.0.0.10}, command: [sleep, "1000"]}
"""


def recorded(run: str, journey: Journey = TWO, command: str = "up") -> list[str]:
    """A run's lines, as the journal has them."""
    lines = [
        encode(Record(each.seq, run, each.wall_ns, each.mono_ns, each.event))
        for each in journey.records()
    ]
    return [line.replace('"command":"up"', f'"command":"{command}"') for line in lines]


def journal(directory: Path, *runs: list[str]) -> Path:
    path = directory / "journal.jsonl"
    path.write_text("".join(f"{line}\n" for lines in runs for line in lines))
    return path


def test_only_what_is_asked_for_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recorded("20-b")
    path = journal(tmp_path, recorded("10-a"), wanted, recorded("30-c"))
    decoded: list[str] = []

    def counting(line: str) -> Record:
        decoded.append(line.rstrip("\n"))
        return decode(line)

    monkeypatch.setattr(runs, "decode", counting)
    assert [head.run for head in runs.heads(path)] == ["10-a", "20-b", "30-c"]
    assert len(decoded) == 6  # how each began and ended
    decoded.clear()
    assert runs.load(path, {"20-b"}) == {"20-b": fold(map(decode, wanted))}
    assert decoded == wanted


def unchanged(lines: list[str]) -> list[str]:
    """The run as one that found all as wanted."""
    return [*lines[:-1], lines[-1].replace('"outcome":"changed"', '"outcome":"unchanged"')]


def test_damage_and_a_torn_line_cost_only_themselves(tmp_path: Path) -> None:
    lines = recorded("20-b")
    torn = recorded("30-c")[0]
    path = journal(tmp_path, [lines[0], "{", '{"seq":1,"run":"20-b"', *lines[1:]])
    with path.open("a") as file:
        file.write(torn[:-3])
    assert [head.run for head in runs.heads(path)] == ["20-b"]
    assert runs.load(path, {"20-b"})["20-b"] == fold(map(decode, lines))
    assert runs.heads(tmp_path / "none") == []


def test_a_text_that_looks_like_another_run_is_none(tmp_path: Path) -> None:
    """A program may answer what it likes; its quotes are escaped in the journal."""
    lines = recorded("20-b")
    evil = '{"seq":0,"run":"10-a","event":"RunStarted"'
    lines.insert(2, encode(Record(9, "20-b", 0, 0, GateChecked("a", "tcp", False, evil))))
    path = journal(tmp_path, lines)
    assert [head.run for head in runs.heads(path)] == ["20-b"]
    assert runs.load(path, {"10-a"}) == {}
    assert runs.load(path, {"20-b"})["20-b"].nodes["a"].probes == {("tcp", False): 1}


@pytest.mark.parametrize(
    ("word", "command", "found"),
    [
        ("", "up", "20261102-2"),
        ("", "replay", "20261106-6"),
        ("", "heal", "20261105-5"),  # nothing to do, but there is no other
        ("last", "up", "20261106-6"),
        ("20261101", "up", "20261101-1"),
        ("2026110", "up", "is the beginning of 6 runs"),
        ("2025", "up", "unknown run 2025"),
        ("", "down", "no run of 'down' is recorded; there are runs of: heal, replay, up"),
    ],
)
def test_a_run_is_chosen_or_the_reason_told(
    tmp_path: Path, word: str, command: str, found: str
) -> None:
    path = journal(
        tmp_path,
        recorded("20261101-1"),
        recorded("20261102-2"),
        recorded("20261103-3", command="replay"),
        unchanged(recorded("20261104-4")),
        unchanged(recorded("20261105-5", command="heal")),
        recorded("20261106-6", command="replay")[:-1],  # killed
    )
    known = runs.heads(path)
    if found.startswith("2026"):
        assert runs.choose(known, word, command=command) == found
    else:
        with pytest.raises(UsageError, match=found):
            runs.choose(known, word, command=command)
    with pytest.raises(UsageError, match="no run is recorded"):
        runs.choose([], word, command=command)


def test_numbers_for_export_are_those_of_the_folds(tmp_path: Path) -> None:
    path = journal(tmp_path, recorded("1"), recorded("2"), recorded("3", command="replay"))
    found = last_times(path)
    assert {command: each.run for command, each in found.items()} == {"up": "2", "replay": "3"}
    run = runs.load(path, {"2"})["2"]
    up = found["up"]
    assert (up.outcome, up.wall_ns, up.floor_ns) == ("changed", run.wall_ns, run.wall_ns)
    assert up.ratio == 1.0
    for name, node in up.nodes.items():
        span = run.nodes[name]
        assert sum(each.ns for each in node.phases.values()) == node.span_ns == span.end_ns
        assert node.is_critical == (name in critical_chain(run).nodes)
        assert node.slack_ns == slack(run)[name]
        for phase, each in node.phases.items():
            first = next(one for one in span.segments if one.phase is phase)
            assert (each.offset_ns, each.ns) == (first.start_ns, span.in_phase(phase))
    b = up.nodes["b"]
    assert b.attempts == {"error": 1, "ok": 1}
    assert b.backoff_ns == b.phases[Phase.BACKOFF].ns > 0
    assert times(run) == up


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_largest_change_comes_first(a: int, b: int, gate: int) -> None:
    before = fold(TWO.records())
    other = Journey({"a": {}, "c": {}}, {"a": [3 + a], "c": [b + 1]}, {"a": 1 + gate, "c": 0})
    found = compare(before, fold(other.records()))
    assert {each.node for each in found} == {"a", "b", "c"}
    sizes = [each.size_ns for each in found]
    assert sizes == sorted(sizes, reverse=True)
    changes = {each.node: each for each in found}
    tick = before.nodes["a"].in_phase(Phase.PROVISION) // 3
    assert changes["a"].change_ns(Phase.PROVISION) == a * tick
    assert changes["a"].own_ns == (a + gate) * tick
    assert changes["b"].after is None
    assert changes["b"].own_ns == -before.nodes["b"].own_ns
    assert changes["c"].before is None


@pytest.mark.parametrize("words", [["blame"], ["critical-chain"], ["plot"], ["what-if"], ["runs"]])
def test_damage_is_told_of(tmp_path: Path, words: list[str]) -> None:
    lines = recorded("20-b")
    lab = tmp_path / "tiny"
    lab.mkdir()
    stack = tmp_path / "stack.yaml"
    stack.write_text(STACK)

    def analyze() -> tuple[str, int]:
        options = ["--stack", str(stack), "--state-dir", str(tmp_path), "--json"]
        done = CliRunner().invoke(analyze_group, [*words, *options])
        return done.stderr, done.exit_code

    path = journal(lab, lines)
    assert analyze() == ("", 0)
    journal(lab, [*lines[:2], "{", lines[2].replace("{", "[", 1), *lines[2:]])
    assert analyze() == (f"warning: 2 damaged lines left out of {path}\n", 0)
    path.write_bytes(bytes(range(200, 256)) + b"\n")
    assert analyze()[0].startswith(f"warning: 1 damaged line left out of {path}\n")
