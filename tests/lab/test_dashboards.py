"""Every panel's query on the real Prometheus of a loaded shop: it is valid, and has data."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from rig import ROOT, World, eventually, run
from routes import every_route

PROMETHEUS = "http://10.0.0.70:9090"
BOARDS = sorted((ROOT / "services" / "monitoring" / "dashboards").glob("*.json"))
QUERIES = {
    f"{path.stem}: {panel['title']} {target['refId']}": target["expr"]
    for path in BOARDS
    for panel in json.loads(path.read_text())["panels"]
    for target in panel.get("targets", ())
} | {
    f"{path.stem}: annotation {each['name']}": each["target"]["expr"]
    for path in BOARDS
    for each in json.loads(path.read_text())["annotations"]["list"]
}
RATE_INTERVAL = "60s"  # at least four scrapes, as Grafana takes for $__rate_interval


def resolved(expression: str) -> str:
    return expression.replace("$__rate_interval", RATE_INTERVAL)


@pytest.fixture(scope="module")
def loaded(watched: World) -> Iterator[World]:
    """Every route is asked again and again for the length of this module."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            every_route(watched)

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask)
        try:
            yield watched
        finally:
            stop.set()
        asking.result()


def test_every_query_is_one_for_promtool(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": resolved(expression)}
        for number, expression in enumerate(QUERIES.values())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run("promtool", "check", "rules", str(path)).ok()


@pytest.mark.parametrize("name", QUERIES)
def test_query_has_data(loaded: World, name: str) -> None:
    """At least one finite sample; a mark of a run has its one only when one begins."""
    expression = resolved(QUERIES[name])
    if ": annotation " in name:
        expression = expression.removesuffix(" > 0")
    url = f"{PROMETHEUS}/api/v1/query?query={quote(expression)}"

    def has_data() -> bool:
        answer = loaded.curl(url).json()
        assert answer["status"] == "success", answer
        return any(math.isfinite(float(row["value"][1])) for row in answer["data"]["result"])

    eventually(has_data, within_s=90)
