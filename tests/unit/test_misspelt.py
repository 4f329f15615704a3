"""Names that are misspelt, empty, or stand where they do not belong: what a person is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from names import next_name

from orchestrator.cli import main

Told = Callable[..., str]

STACK = """
name: words
networks: {br-words: {address: 10.9.0.1/24}}
services:
  api-gateway: {networks: {br-words: 10.9.0.10}, command: [sleep, infinity], layer: gateway}
  product-service: {networks: {br-words: 10.9.0.20}, command: [sleep, infinity], layer: services}
secrets: [front-password]
"""


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Told:
    """What the command with these words says, which must be that they are wrong."""
    file = tmp_path / "stack.yaml"
    file.write_text(STACK)
    monkeypatch.setenv("ORCHESTRATOR_STACK", str(file))
    monkeypatch.setenv("ORCHESTRATOR_HOST_NETNS", next_name())  # whatever breaks, not the root one
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("ORCHESTRATOR_RUN_DIR", str(tmp_path / "run"))

    def tell(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["orchestrator", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        return capsys.readouterr().err

    return tell


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["why", "gatway"], "api-gateway"),
        (["logs", "prodct"], "product-service"),
        (["logs", "service:prodct-service"], "service:product-service"),
        (["exec", "api-gatewya", "true"], "api-gateway"),
        (["shell", "api-gatewya"], "api-gateway"),
    ],
)
def test_misspelt_node_is_recognized(told: Told, words: list[str], meant: str) -> None:
    assert f"(did you mean {meant}" in told(*words)


def test_what_is_like_nothing_has_no_hint(told: Told) -> None:
    assert "did you mean" not in told("why", "xyzzy")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["statu"], "status"),
        (["analyze", "blam"], "blame"),
        (["status", "--jsn"], "--json"),
    ],
)
def test_misspelt_command_or_option_is_recognized(told: Told, words: list[str], meant: str) -> None:
    assert f"Did you mean '{meant}'?" in told(*words)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--json", "status"], "orchestrator status --json"),
        (["--stack", "x", "status", "--all"], "orchestrator status --stack PATH"),
        (["analyze", "--json", "blame"], "orchestrator analyze blame --json"),
    ],
)
def test_option_before_its_command_is_told_its_place(
    told: Told, words: list[str], line: str
) -> None:
    assert f"belongs after the command: {line}" in told(*words)


def test_option_that_no_command_has_is_only_refused(told: Told) -> None:
    assert "belongs after" not in told("--nothing", "status")


@pytest.mark.parametrize(
    "words", [["replay", ""], ["why", ""], ["logs", ""], ["exec", "", "true"], ["shell", ""]]
)
def test_empty_name_is_no_node(told: Told, words: list[str]) -> None:
    assert "an empty name is no node" in told(*words)


@pytest.mark.parametrize("words", [[], ["status"], ["analyze", "blame"]])
def test_help_is_a_word_as_well(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for spelt in (["help", *words], [*words, "--help"]):
        monkeypatch.setattr("sys.argv", ["orchestrator", *spelt])
        main()
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


@pytest.mark.parametrize("command", ["up", "status", "replay", "why"])
def test_help_names_the_variables_for_options(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["orchestrator", command, "--help"])
    main()
    out = " ".join(capsys.readouterr().out.split())
    for name in ("STACK", "HOST_NETNS", "STATE_DIR", "RUN_DIR", "CACHE_DIR"):
        assert f"[env var: ORCHESTRATOR_{name}]" in out
