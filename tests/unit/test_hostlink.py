"""Links on the host to rendered files: ours are replaced and removed, others' are left alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.engine.plan import Node
from orchestrator.events import Outcome
from orchestrator.processes.hostlink import HostLink
from orchestrator.rebuild import lost_links
from orchestrator.resource import State


@pytest.fixture
def link(tmp_path: Path) -> HostLink:
    target = tmp_path / "run/nodes/nginx/0123-nginx.conf"
    return HostLink(tmp_path / "tmp/nginx.conf", target, tmp_path / "run/made", lambda _: None)


def test_link_to_an_earlier_file_of_the_same_node_is_ours(link: HostLink) -> None:
    link.path.parent.mkdir()
    link.path.symlink_to(link.target.with_name("4567-nginx.conf"))
    assert asyncio.run(link.observe()).state is State.PARTIAL
    assert asyncio.run(link.ensure()) is Outcome.CHANGED
    assert link.path.readlink() == link.target
    link.path.unlink()
    link.path.symlink_to(link.target.with_name("4567-nginx.conf"))
    assert asyncio.run(link.remove()) is Outcome.CHANGED
    assert not link.path.is_symlink()


def test_somebody_elses_link_is_left_alone(link: HostLink) -> None:
    link.path.parent.mkdir()
    link.path.symlink_to("/elsewhere/nginx.conf")
    assert asyncio.run(link.observe()).state is State.FOREIGN
    assert asyncio.run(link.ensure()) is Outcome.UNCHANGED
    assert asyncio.run(link.remove()) is Outcome.UNCHANGED
    assert link.path.readlink() == Path("/elsewhere/nginx.conf")


async def test_replay_brings_back_a_link_but_takes_away_nobodys_file(link: HostLink) -> None:
    nodes = {link.name: Node(link, "edge", {})}
    link.path.parent.mkdir(exist_ok=True)
    assert await lost_links(nodes) == {link.name}
    await link.ensure()
    assert await lost_links(nodes) == frozenset()
    link.path.unlink()
    assert await lost_links(nodes) == {link.name}
    link.path.write_text("mine")
    assert await lost_links(nodes) == frozenset()
