"""Dashboards: the committed files are what the code makes, and have nothing for a linter."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from grafana import TSC, program
from rig import ROOT

from dashboards import generate

PLACE = ROOT / "services" / "monitoring" / "dashboards"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
RANGE = re.compile(r"(rate|irate|delta|deriv)\([^[]*\[(?!\$__rate_interval\])")


def test_committed_dashboards_are_those_that_the_code_makes() -> None:
    committed = {path.name: path.read_text() for path in PLACE.glob("*.json")}
    assert committed == generate.files(), "run `make dashboards` and commit what it wrote"
    assert (ROOT / "dashboards" / "json").resolve() == PLACE


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard_is_one_that_file_provisioning_reads(name: str) -> None:
    board = BOARDS[name]
    assert board["schemaVersion"] == 41
    assert board["editable"] is False
    assert (board["uid"], board["title"].partition(" / ")[0]) == (
        f"orchestrator-{name}",
        "Orchestrator",
    )
    assert board["description"]
    [variable] = board["templating"]["list"]
    assert (variable["name"], variable["query"]) == ("datasource", "prometheus")
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in board["panels"]):
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, "panels overlap"
        taken |= cells


@pytest.mark.parametrize("panel", PANELS)
def test_panel_has_nothing_for_a_linter(panel: dict[str, Any]) -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["title"]
    assert panel["description"].endswith((".", "be none.")), "a sentence that says what is seen"
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == source
    assert panel["targets"]
    letters = [target["refId"] for target in panel["targets"]]
    assert len(letters) == len(set(letters))
    for target in panel["targets"]:
        assert not RANGE.search(target["expr"]), "rates are over $__rate_interval"
        assert "job=" not in target["expr"], "another Prometheus may call its jobs otherwise"
    if panel["type"] == "timeseries" and len(panel["targets"]) > 1:
        assert all(target["legendFormat"] != "__auto" for target in panel["targets"])


def compile_(boards: dict[str, Any], directory: Path) -> tuple[int, str]:
    """Exit code and output of the TypeScript compiler."""
    path = directory / "boards.ts"
    path.write_text(program(boards))
    words = ["node", str(TSC), "--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"]
    words += ["--module", "esnext", "--moduleResolution", "bundler", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.skipif(
    not (TSC.exists() and shutil.which("node")), reason="npm is not there to get Grafana's types"
)
def test_dashboards_have_the_types_of_grafanas_schema(tmp_path: Path) -> None:
    code, out = compile_(BOARDS, tmp_path)
    assert code == 0, out
    for change in (
        lambda panel: panel["fieldConfig"]["defaults"].update(unit=5),
        lambda panel: panel["options"]["legend"].update(displayMode="lists"),
        lambda panel: panel["fieldConfig"]["defaults"]["custom"].update(lineWidht=1),
        lambda panel: panel.update(heigth=1),
    ):
        broken = copy.deepcopy(BOARDS)
        change(next(p for p in broken["overview"]["panels"] if p["type"] == "timeseries"))
        assert compile_(broken, tmp_path)[0] != 0
