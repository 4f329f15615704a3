"""Who is not root is told so, by every command: exit code 3 and the mend, or an answer."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from names import next_name
from rig import Done, World, run

from orchestrator.commandtable import COMMANDS
from orchestrator.errors import HostError

WEB = """
name: web
networks: {br-web: {address: 10.9.0.1/24}}
secrets: [word]
services:
  web:
    networks: {br-web: 10.9.0.10}
    command: [python, -m, http.server, "80"]
    readiness: {tcp: 80}
    secrets: [word]
"""
# The interpreter itself may lie where others cannot go, so the change comes after imports.
AS_NOBODY = """
import importlib, os, pkgutil, sys, orchestrator
for each in pkgutil.walk_packages(orchestrator.__path__, "orchestrator."):
    importlib.import_module(each.name)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.argv[0] = "orchestrator"
importlib.import_module("orchestrator.__main__").run()
"""
WORDS = {
    "analyze": ["analyze", "blame"],
    "completion": ["completion", "bash"],
    "exec": ["exec", "web", "true"],
    "secrets": ["secrets", "list"],
    "shell": ["shell", "web"],
}
OPEN = {"completion", "doctor", "graph", "logs", "schema", "validate"}  # with a lab up, too
PLAIN = {"completion", "schema"}  # of no lab
MEASURED = {"path", "trace"}  # by the supervisor


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    """In a directory that everybody may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "stack.yaml").write_text(WEB)
        found = replace(World.build(next_name(), place), stack=place / "stack.yaml")
        try:
            yield found
        finally:
            found.orchestrator("down", "--volumes")
            found.remove()


@pytest.fixture(scope="module")
def up(lab: World) -> World:
    lab.orchestrator("up", "--supervise").ok()
    return lab


def as_nobody(lab: World, command: str) -> Done:
    words = WORDS.get(command, [command])
    if command not in PLAIN:
        words = lab.words(*words)[3:]
    done = run(sys.executable, "-c", AS_NOBODY, *words)
    assert "Errno" not in done.err, done.err
    assert "bug" not in done.err, done.err
    assert "Traceback" not in done.err, done.err
    if done.code == HostError.exit_code:
        assert done.err.endswith("\n  mend: run it with sudo\n")
    return done


@pytest.mark.parametrize("command", COMMANDS)
def test_with_nothing_up_there_is_an_answer_or_the_mend(lab: World, command: str) -> None:
    done = as_nobody(lab, command)
    assert done.code in (0, 2, 3) or (command in MEASURED and "no supervisor" in done.err)


@pytest.mark.parametrize("command", COMMANDS)
def test_with_a_lab_up_all_that_is_closed_says_so(up: World, command: str) -> None:
    assert as_nobody(up, command).code == (0 if command in OPEN else HostError.exit_code)


def test_logs_that_are_closed_are_no_bug(up: World) -> None:
    place = up.state / f"web@{up.host}" / "logs"
    place.chmod(0o700)
    try:
        done = as_nobody(up, "logs")
    finally:
        place.chmod(0o755)
    assert done.code == HostError.exit_code
    assert str(place) in done.err
