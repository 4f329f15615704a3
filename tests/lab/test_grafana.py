"""The shop's Grafana service, with a stand-in for the program: none can be installed in tests.

The stand-in takes Grafana's command line, reads the same configuration and answers as it does, so
what is proven is all that is ours: that the service appears, what it is given, and who reaches it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from rig import ROOT, SHOP, World, eventually

STAND_IN = """#!/usr/bin/python3
import configparser, http.server, json, os, re, sys
from pathlib import Path

assert sys.argv[1] == "server", sys.argv
options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[2:])
assert Path(options["homepath"], "conf/defaults.ini").exists()
ini = configparser.ConfigParser(interpolation=None)
ini.read(options["config"])
secret = re.fullmatch(r"\\$__file\\{(.*)\\}", ini["security"]["admin_password"])[1]
provisioning = Path(ini["paths"]["provisioning"])
Path(ini["paths"]["data"], "grafana.db").write_text("")
provider = next(
    line.split()[1]
    for line in provisioning.joinpath("dashboards/files.yml").read_text().splitlines()
    if "path:" in line
)
state = {
    "database": "ok",
    "password": len(Path(secret).read_text()),
    "datasource": provisioning.joinpath("datasources/prometheus.yml").read_text(),
    "dashboards": sorted(os.listdir(provider)),
}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(state).encode())

address = ini["server"]["http_addr"], int(ini["server"]["http_port"])
http.server.HTTPServer(address, Handler).serve_forever()
"""


@pytest.fixture
def stack(world: World, tmp_path: Path) -> Path:
    """The shop's monitoring alone, with Grafana looked for in a directory of the test's."""
    shutil.copytree(ROOT / "services" / "monitoring", tmp_path / "monitoring")
    data = yaml.safe_load(SHOP.read_text())
    (data["services"]["prometheus"]["files"]["/run/prometheus.yml"]) = {
        "content": "global: {scrape_interval: 1s}\n"
    }
    data["services"] = {name: data["services"][name] for name in ("prometheus", "grafana")}
    data["path"] = [f"/opt/{world.host}/bin"]
    del data["jobs"], data["checks"], data["supervision"]
    data["flows"] = [{"from": "grafana", "to": "prometheus"}]  # the others' services are gone
    path = tmp_path / "stack.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("linked", [False, True])
def test_grafana_starts_where_it_is_installed(world: World, stack: Path, *, linked: bool) -> None:
    """Beside its own files, or by a link to a place elsewhere."""
    home = Path("/opt", world.host)
    try:
        (home / "conf").mkdir(parents=True)
        (home / "conf" / "defaults.ini").touch()
        (home / "bin").mkdir()
        program = home / "bin" / "grafana"
        if linked:
            (home / "libexec" / "bin").mkdir(parents=True)
            shutil.move(home / "conf", home / "libexec" / "conf")
            program.symlink_to(home / "libexec" / "bin" / "grafana")
            program = home / "libexec" / "bin" / "grafana"
        program.write_text(STAND_IN)
        program.chmod(0o755)
        world.orchestrator("up", stack=stack).ok()
        state = world.curl("http://10.0.0.80:3000/api/health").json()
        assert state["password"] >= 32
        assert "url: http://10.0.0.70:9090" in state["datasource"]
        assert state["dashboards"] == sorted(
            path.name for path in (ROOT / "services/monitoring/dashboards").iterdir()
        )
        # What the datasource says is true from where Grafana is.
        answer = world.curl("http://10.0.0.70:9090/-/ready", "-f", where="grafana").ok()
        assert "Ready" in answer.out
        rows = world.orchestrator("status", "--json", stack=stack).json()["nodes"]
        assert json.dumps(rows).count('"service:grafana"') == 1
        world.orchestrator("down", stack=stack).ok()
        eventually(lambda: world.sandboxes() == [])
    finally:
        world.orchestrator("down", "--volumes", stack=stack)
        shutil.rmtree(home, ignore_errors=True)
