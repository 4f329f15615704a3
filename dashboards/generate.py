"""`make dashboards`: writes the dashboards as Grafana's classic JSON.

They lie beside the stack, where the platform's own Grafana is provisioned from; `json` in this
directory is a link to them, for whoever looks for them here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

from dashboards.boards import overview, path, saturation, self, setup, stores
from dashboards.panels import WIDTH

PLACE = Path(__file__).parent.parent / "services" / "monitoring" / "dashboards"
SCHEMA_VERSION = 41  # of Grafana 11.6, which file provisioning of all later ones reads
TAG = "orchestrator"
BOARDS = (overview, setup, path, saturation, stores, self)


def build(board: ModuleType) -> str:
    """The JSON text of one dashboard; the module's docstring describes it."""
    made = (
        dashboard.Dashboard(f"Orchestrator / {board.TITLE}")
        .uid(f"orchestrator-{board.SLUG}")
        .description(board.__doc__ or "")
        .tags([TAG])
        .readonly()
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").type("prometheus").label("Source")
        )
        .link(
            dashboard.DashboardLink("Orchestrator")
            .type("dashboards")
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    for name, panels in board.ROWS:
        made = made.with_row(dashboard.Row(name))
        for panel in panels:
            made = made.with_panel(panel)
    document = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    document["schemaVersion"] = SCHEMA_VERSION
    document["annotations"] = {"list": [runs()]}
    for variable in document["templating"]["list"]:
        for word in ("auto", "auto_count", "auto_min"):  # of another kind of variable
            variable.pop(word, None)
    place(document["panels"])
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def place(panels: list[dict[str, Any]]) -> None:
    """Side by side until a line of Grafana's grid is full, in their order; numbered."""
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        at = panel["gridPos"]
        width = WIDTH if panel["type"] == "row" else at["w"]
        if x + width > WIDTH:
            x, y, height = 0, y + height, 0
        panel["id"] = number
        panel["gridPos"] = {**at, "w": width, "x": x, "y": y}
        x, height = x + width, max(height, at["h"])


def runs() -> dict[str, Any]:
    """A mark in every picture when a run began. The builder's query is of an older schema."""
    expression = "changes(orchestrator_last_run_timestamp_seconds[$__rate_interval]) > 0"
    return {
        "name": "Runs",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "enable": True,
        "iconColor": "blue",
        "target": {"expr": expression, "refId": "Anno"},
    }


def files() -> dict[str, str]:
    """The text of each dashboard by the name of its file."""
    return {f"{board.SLUG}.json": build(board) for board in BOARDS}


def main() -> None:
    for name, text in files().items():
        (PLACE / name).write_text(text)
    sys.stdout.write(f"{len(BOARDS)} dashboards\n")


if __name__ == "__main__":
    main()
