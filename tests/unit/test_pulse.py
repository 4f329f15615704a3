"""A supervisor that is there, but does nothing, is told from one that works or has just begun."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from orchestrator import resident
from orchestrator.errors import OrchestratorError
from orchestrator.front import pulse
from orchestrator.front.control import listen
from orchestrator.front.problems import problems
from orchestrator.front.serve import serving
from orchestrator.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    found = Lab("tiny", "", tmp_path / "state", tmp_path / "run")
    found.run_dir.mkdir(parents=True)
    return found


@pytest.fixture
def held(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """We are the supervisor."""
    monkeypatch.setattr(pulse, "ANSWER_S", 0.05)
    with resident.hold(lab, "digest"):
        yield


def listening(lab: Lab) -> socket.socket:
    listener = listen(lab)
    listener.listen()
    return listener


def test_nobody_has_no_ailment(lab: Lab) -> None:
    assert pulse.ailment(lab) == ""


def test_who_listens_and_never_answers_is_named_with_the_mend(lab: Lab, held: None) -> None:
    with listening(lab):
        assert f"pid {os.getpid()}, has not answered for" in pulse.ailment(lab)
        with pytest.raises(OrchestratorError, match=r"has not answered(.|\n)*`orchestrator up`"):
            pulse.ask(lab, "/path")


@pytest.mark.parametrize(("starting_s", "said"), [(1e9, ""), (0, "does not listen")])
def test_who_does_not_listen_may_have_just_begun(
    lab: Lab, held: None, monkeypatch: pytest.MonkeyPatch, starting_s: float, said: str
) -> None:
    monkeypatch.setattr(pulse, "STARTING_S", starting_s)
    found = pulse.ailment(lab)
    assert said in found
    assert bool(said) == bool(found)


async def test_any_answer_is_one(lab: Lab, held: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "ANSWER_S", 30)
    async with serving(web.Application(middlewares=[problems]), [listen(lab)]):
        assert await asyncio.to_thread(pulse.ailment, lab) == ""
