"""Services whose program this host does not have are left out, and nothing breaks by it."""

from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rig import ROOT, SHOP

from orchestrator.app import App, open_app
from orchestrator.errors import SpecError
from orchestrator.presence import leave_out, words
from orchestrator.processes.files import Secrets
from orchestrator.spec import Stack
from orchestrator.stackfile import parse_stack
from orchestrator.templates import Templates
from orchestrator.validation import Placeholders

TEXT = """
name: parts
networks: {br-app: {address: 10.0.0.1/16}}
services:
  core: {networks: {br-app: 10.0.0.10}, command: [sleep, "1"], needs: [extra, fill]}
  extra:
    when: {program: [rare, rarer], otherwise: get it at the shop}
    networks: {br-app: 10.0.0.20}
    command: [rare]
  beside: {namespace: extra, command: [sleep, "1"]}
  other: {namespace: core, command: [sleep, "1"], needs: {extra: started, core: ready}}
jobs:
  fill: {of: extra, command: ["true"]}
  last: {of: core, command: ["true"], needs: [fill, core]}
checks:
  of-core: {needs: [core], steps: [{url: "http://localhost/"}]}
  of-extra: {needs: [core, extra], steps: [{url: "http://localhost/"}]}
  of-fill: {needs: [fill], steps: [{url: "http://localhost/"}]}
  of-all: {steps: [{url: "http://localhost/"}]}
"""


def stack() -> Stack:
    return parse_stack(TEXT, "parts.yaml")


@pytest.mark.parametrize("installed", [{"rare"}, {"rarer"}, {"rare", "rarer"}])
def test_nothing_is_left_out_where_one_of_the_programs_is_there(installed: set[str]) -> None:
    assert leave_out(stack(), installed.__contains__) == (stack(), {})


def test_absent_program_takes_along_what_is_part_of_it_and_nothing_else() -> None:
    part, left_out = leave_out(stack(), lambda _: False)
    assert set(part.services) == {"core", "other"}
    assert set(part.jobs) == {"last"}
    assert set(part.checks) == {"of-core", "of-all"}
    assert not part.services["core"].needs
    assert set(part.services["other"].needs) == {"core"}
    assert set(part.jobs["last"].needs) == {"core"}
    assert words(left_out) == [
        "extra: left out, rare or rarer is not installed; get it at the shop",
        "beside: left out, rare or rarer is not installed",
    ]


def test_part_that_is_left_is_a_valid_stack_of_its_own() -> None:
    """As if the file had been written without the rest."""
    part, _ = leave_out(stack(), lambda _: False)
    data = yaml.safe_load(TEXT)
    for kind, name in (("services", "extra"), ("services", "beside"), ("jobs", "fill")):
        del data[kind][name]
    del data["checks"]["of-extra"], data["checks"]["of-fill"]
    data["services"]["core"]["needs"] = []
    del data["services"]["other"]["needs"]["extra"]
    data["jobs"]["last"]["needs"] = ["core"]
    assert part == parse_stack(yaml.safe_dump(data), "parts.yaml")


def test_needs_on_what_may_be_left_out_are_checked_as_ever() -> None:
    with pytest.raises(SpecError, match="unknown need"):
        parse_stack(TEXT.replace("needs: [extra, fill]", "needs: [extras]"), "parts.yaml")


@pytest.mark.parametrize("when", ["{}", "{program: []}", "{command: x}", "{program: {a: b}}"])
def test_condition_without_a_program_is_refused(when: str) -> None:
    text = TEXT.replace("{program: [rare, rarer], otherwise: get it at the shop}", when)
    with pytest.raises(SpecError):
        parse_stack(text, "parts.yaml")


# -- the shop's monitoring -----------------------------------------------------------------


def shop() -> App:
    nowhere = Path("/nonexistent")
    return open_app(SHOP, host="", state_root=nowhere, run_root=nowhere)


def rendered(app: App, name: str, part: Stack) -> dict[str, str]:
    secrets: Secrets = Placeholders(app.whole.secrets)
    templates = Templates(part, app.whole, app.directory, secrets)
    service = app.whole.services[name]
    return templates.render(name, service.files, service.environment)


def jobs_of(app: App, part: Stack) -> dict[str, Any]:
    config = yaml.safe_load(rendered(app, "prometheus", part)["/run/prometheus.yml"])
    return {job["job_name"]: job["static_configs"][0] for job in config["scrape_configs"]}


def test_nobody_but_monitoring_waits_for_monitoring() -> None:
    nodes = shop().nodes
    monitoring = {name for name, node in nodes.items() if node.layer == "monitoring"}
    monitoring |= {"veth:prometheus", "netns:prometheus", "policy:prometheus"}
    assert "service:prometheus" in monitoring
    for name, node in nodes.items():
        if name not in monitoring:
            assert not monitoring & node.needs.keys(), name


def test_prometheus_waits_for_nothing_but_its_place() -> None:
    needs = shop().nodes["service:prometheus"].needs
    assert needs.keys() == {"netns:prometheus", "policy:prometheus", "veth:prometheus"}


def test_targets_are_those_that_are_installed() -> None:
    app = shop()
    everything = {"prometheus", "nginx", "postgres", "redis", "grafana"}
    everything |= {"gateway", "product", "order", "orchestrator"}
    whole = jobs_of(app, app.whole)
    assert whole.keys() == everything
    assert whole["orchestrator"]["targets"] == ["10.0.0.1:9464"]
    assert whole["gateway"] == {
        "targets": ["10.0.0.20:9100"],
        "labels": {"instance": "api-gateway"},
    }
    without, left_out = leave_out(app.whole, lambda _: False)
    assert left_out.keys() == {
        "nginx-exporter",
        "postgres-exporter",
        "redis-exporter",
        "grafana",
    }
    assert jobs_of(app, without).keys() == everything - {"nginx", "postgres", "redis", "grafana"}


def test_grafana_is_told_of_prometheus_and_of_its_dashboards() -> None:
    """No Grafana is there to ask: its files by their syntax and by what they point at."""
    app = shop()
    files = rendered(app, "grafana", app.whole)
    folder = "/run/grafana/provisioning"
    source = yaml.safe_load(files[f"{folder}/datasources/prometheus.yml"])
    assert source["apiVersion"] == 1
    assert source["datasources"][0]["url"] == "http://10.0.0.70:9090"
    provider = yaml.safe_load(files[f"{folder}/dashboards/files.yml"])["providers"][0]
    assert provider["type"] == "file"
    path = provider["options"]["path"]
    assert path.startswith("/stack/")
    directory = app.directory / path.removeprefix("/stack/")
    assert directory.is_dir()
    for dashboard in directory.glob("*.json"):
        assert {"uid", "title", "panels"} <= json.loads(dashboard.read_text()).keys()
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(files["/run/grafana/grafana.ini"])
    assert ini["paths"]["provisioning"] == folder
    assert ini["server"]["http_port"] == str(app.whole.services["grafana"].readiness.tcp)
    assert ini["security"]["admin_password"] == "$__file{/run/secrets/grafana-password}"
    assert "grafana-password" in app.whole.services["grafana"].secrets


def test_existing_grafana_is_told_where_prometheus_and_dashboards_are() -> None:
    app = shop()
    _, left_out = leave_out(app.whole, lambda _: False)
    line = next(line for line in words(left_out) if line.startswith("grafana:"))
    assert "http://10.0.0.70:9090" in line
    assert str(app.whole.address_of("prometheus")) in line
    assert (ROOT / line.rpartition(" ")[2]).is_dir()
