"""Panels as the field draws them: every one has a title, a description and a unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    heatmap,
    nodegraph,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
)
from grafana_foundation_sdk.models.dashboard import ThresholdsMode as Mode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24  # of Grafana's grid

Query = tuple[str, str]  # expression, legend


def query(expression: str, legend: str = "", *, ref: str = "A", instant: bool = False) -> Any:
    found = prometheus.Dataquery().expr(expression).ref_id(ref).legend_format(legend or "__auto")
    return found.instant() if instant else found.range()


def table_query(expression: str, *, ref: str = "A") -> Any:
    return query(expression, ref=ref, instant=True).format(PromQueryFormat.TABLE)


def thresholds(warning: float, critical: float) -> Any:
    steps = [
        Threshold(value=None, color="green"),
        Threshold(value=warning, color="orange"),
        Threshold(value=critical, color="red"),
    ]
    return dashboard.ThresholdsConfig().mode(Mode.ABSOLUTE).steps(steps)


def _place(panel: Any, title: str, description: str, width: int, height: int) -> Any:
    return panel.title(title).description(description).datasource(SOURCE).span(width).height(height)


def number(
    title: str,
    description: str,
    unit: str,
    expression: str,
    *,
    limits: tuple[float, float] | None = None,
    width: int = 4,
) -> Any:
    """One value, with its recent course."""
    panel = _place(stat.Panel(), title, description, width, 4).unit(unit)
    panel = panel.with_target(query(expression))
    return panel.thresholds(thresholds(*limits)) if limits else panel


def lines(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    stacked: bool = False,
    width: int = 12,
    height: int = 8,
    limit: float | None = None,
) -> Any:
    """Courses over time; stacked where they add up to something."""
    panel = _place(timeseries.Panel(), title, description, width, height).unit(unit)
    panel = panel.line_width(1).fill_opacity(60 if stacked else 10).min(0)
    panel = panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(models.LegendDisplayMode.LIST)
        .placement(models.LegendPlacement.BOTTOM)
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL))
    if limit is not None:
        panel = panel.thresholds(thresholds(limit, limit * 2)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(models.GraphThresholdsStyleMode.DASHED)
        )
    for letter, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(query(expression, legend, ref=letter))
    return panel


def warmth(title: str, description: str, expression: str, *, width: int = 12) -> Any:
    """Where the values of a histogram lie over time."""
    panel = _place(heatmap.Panel(), title, description, width, 8).unit("s")
    return panel.with_target(query(expression, "{{le}}").format(PromQueryFormat.HEATMAP))


def rows(
    title: str,
    description: str,
    unit: str,
    expression: str,
    *,
    hidden: Sequence[str] = (),
    width: int = 12,
    height: int = 8,
) -> Any:
    """A table of what is now."""
    panel = _place(table.Panel(), title, description, width, height).unit(unit)
    drop = dict.fromkeys(("Time", "__name__", "instance", "job", "lab", *hidden), True)
    organise = DataTransformerConfig(id_val="organize", options={"excludeByName": drop})
    return panel.with_target(table_query(expression)).transformations([organise])


def gantt(title: str, description: str, expression: str, *, hidden: str) -> Any:
    """A horizontal bar for each `node`: its `phase`s in a row, of which `hidden` is not drawn."""
    panel = _place(barchart.Panel(), title, description, WIDTH, 18).unit("s")
    to_matrix = DataTransformerConfig(
        id_val="groupingToMatrix",
        options={"columnField": "phase", "rowField": "node", "valueField": "Value"},
    )
    clear = [
        DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "transparent"}),
        DynamicConfigValue("custom.hideFrom", {"legend": True, "tooltip": True, "viz": False}),
    ]
    panel = panel.orientation(models.VizOrientation.HORIZONTAL).bar_width(0.8)
    panel = panel.stacking(models.StackingMode.NORMAL).x_field("node\\phase")
    panel = panel.show_value(models.VisibilityMode.NEVER).override_by_name(hidden, clear)
    return panel.transformations([to_matrix]).with_target(table_query(expression))


def graph(title: str, description: str, nodes: str, edges: str, *, unit: str = "short") -> Any:
    """Boxes and arrows: `nodes` has a label id, `edges` the labels id, source and target."""
    panel = _place(nodegraph.Panel(), title, description, 12, 12).unit(unit)
    rename = DataTransformerConfig(
        id_val="organize", options={"renameByName": {"Value": "mainstat"}}
    )
    panel = panel.with_target(table_query(nodes, ref="nodes"))
    return panel.with_target(table_query(edges, ref="edges")).transformations([rename])
