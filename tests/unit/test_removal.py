"""The order in which a whole lab is taken away."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import SHOP

from orchestrator.app import open_app
from orchestrator.engine.executor import recorded_needs
from orchestrator.events import Action, Needs
from orchestrator.kinds import kind_of
from orchestrator.needs import find_circle

TWO_NETWORKS = """\
name: two
networks: {br-a: {address: 10.8.0.1/24}, br-b: {address: 10.9.0.1/24, masquerade: false}}
services:
  front: {networks: {br-a: 10.8.0.10, br-b: 10.9.0.10}, command: [sleep, "1"], ports: ["81:80"]}
  back: {networks: {br-b: 10.9.0.20}, command: [sleep, infinity], needs: [front]}
"""


@pytest.fixture(params=["shop", "two networks"])
def removal(request: pytest.FixtureRequest, tmp_path: Path) -> Needs:
    """What each node waits for."""
    path = SHOP
    if request.param != "shop":
        path = tmp_path / "stack.yaml"
        path.write_text(TWO_NETWORKS)
    nowhere = tmp_path / "nowhere"
    app = open_app(path, host="", state_root=nowhere, run_root=nowhere)
    return recorded_needs(app.nodes, Action.REMOVE)


def test_it_has_no_circle(removal: Needs) -> None:
    assert find_circle({name: removal.get(name, {}).keys() for name in removal}) == []


def test_rules_go_after_all_services_and_before_links(removal: Needs) -> None:
    """A client is answered or refused, never left without a word."""
    services = {name for needs in removal.values() for name in needs if kind_of(name) == "service"}
    assert services
    assert services <= removal["nat:rules"].keys()
    assert services <= removal["sysctl:ip_forward"].keys()
    links = [name for name in removal if kind_of(name) in ("veth", "bridge")]
    assert len(links) > 2
    assert all("nat:rules" in removal[name] for name in links)
