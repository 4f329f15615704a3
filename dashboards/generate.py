"""`make dashboards`: writes the dashboards as Grafana's classic JSON.

They are kept in this directory for whoever imports them, and beside the stack, where the
platform's own Grafana is provisioned from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from dashboards.boards import overview, path, saturation, self, setup, stores

HERE = Path(__file__).parent
PLACES = (HERE, HERE.parent / "services" / "monitoring" / "dashboards")
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
        .annotation(runs())
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
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def runs() -> Any:
    """A mark in every picture when a run began."""
    expression = "changes(orchestrator_last_run_timestamp_seconds[$__rate_interval]) > 0"
    return (
        dashboard.AnnotationQuery()
        .name("Runs")
        .datasource(DataSourceRef(type_val="prometheus", uid="${datasource}"))
        .enable(True)
        .icon_color("blue")
        .expr(expression)
    )


def main() -> None:
    for place in PLACES:
        place.mkdir(exist_ok=True)
        for board in BOARDS:
            (place / f"{board.SLUG}.json").write_text(build(board))
    sys.stdout.write(f"{len(BOARDS)} dashboards\n")


if __name__ == "__main__":
    main()
