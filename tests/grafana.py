"""A dashboard as TypeScript that only compiles if Grafana's own schema has all that is in it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "types"
TSC = HERE / "node_modules" / "typescript" / "bin" / "tsc"
SCHEMA = HERE / "node_modules" / "@grafana" / "schema" / "dist" / "esm"
# Type of panel → where the schema describes its options.
PANELS = {
    name: f"{SCHEMA}/raw/composable/{name.lower()}/panelcfg/x/{file}PanelCfg_types.gen"
    for name, file in {
        "stat": "Stat",
        "timeseries": "TimeSeries",
        "heatmap": "Heatmap",
        "table": "Table",
        "barchart": "BarChart",
        "nodeGraph": "NodeGraph",
    }.items()
}
# JSON has the values of enumerations, not their names.
PLAIN = """
type Plain<T> = T extends string ? `${T}`
  : T extends number ? (`${T}` extends `${infer N extends number}` ? N : never)
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


def program(dashboards: Mapping[str, Any]) -> str:
    """One constant for each part of each dashboard, with the type that it must have."""
    lines = [f"import type {{ Dashboard, Panel, RowPanel }} from '{SCHEMA}/index.gen';"]
    lines += [f"import type * as {name} from '{place}';" for name, place in PANELS.items()]
    lines.append(PLAIN)

    def check(kind: str, value: object) -> None:
        lines.append(f"const _{len(lines)}: Plain<{kind}> = {json.dumps(value)};")

    for dashboard in dashboards.values():
        whole = copy.deepcopy(dashboard)
        for each in whole["annotations"]["list"]:
            del each["target"]  # the schema knows only that of Grafana's own annotations
        check("Dashboard", whole)
        for panel in dashboard["panels"]:
            kind = panel["type"]
            if kind == "row":
                check("RowPanel", panel)
                continue
            check("Panel", panel)
            check(f"Partial<{kind}.Options>", panel.get("options", {}))
            if custom := panel.get("fieldConfig", {}).get("defaults", {}).get("custom"):
                check(f"Partial<{kind}.FieldConfig>", custom)
    return "\n".join(lines) + "\n"
