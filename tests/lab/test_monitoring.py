"""Prometheus sees the shop, with accounts that can do nothing else."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from urllib.parse import quote

import pytest
from rig import ROOT, World, eventually

PROMETHEUS = "http://10.0.0.70:9090"
EXPORTERS = {"nginx-exporter": 9113, "postgres-exporter": 9187, "redis-exporter": 9121}
TARGETS = {"prometheus": "prometheus", "nginx": "nginx-lb", "postgres": "postgres-db"}
TARGETS |= {"redis": "redis-cache"}
# Targets whose endpoints are somebody else's: there, or not there.
OPEN = {"gateway", "product", "order", "orchestrator"}
COUNTED = {
    "nginx": "nginx_http_requests_total",
    "postgres": 'pg_stat_database_xact_commit{datname="shop"}',
    "redis": 'redis_commands_total{cmd="mget"}',
}


def query(shop: World, text: str) -> list[tuple[dict[str, str], float]]:
    found = shop.curl(f"{PROMETHEUS}/api/v1/query?query={quote(text)}").json()
    assert found["status"] == "success", found
    return [(each["metric"], float(each["value"][1])) for each in found["data"]["result"]]


def value(shop: World, text: str) -> float:
    """The only sample's; below everything while there is none."""
    found = query(shop, text)
    assert len(found) <= 1
    return found[0][1] if found else -1.0


def secret(shop: World, name: str) -> str:
    return (shop.state / f"shop@{shop.host}" / "secrets" / name).read_text()


def test_every_target_that_is_there_is_up(shop: World) -> None:
    def ups() -> dict[str, tuple[str, float]]:
        return {at["job"]: (at["instance"], up) for at, up in query(shop, "up")}

    wanted = {job: (instance, 1.0) for job, instance in TARGETS.items()}
    eventually(lambda: wanted.items() <= ups().items(), within_s=60)
    assert ups().keys() - OPEN == wanted.keys()


def test_target_that_was_never_there_is_no_alarm(shop: World) -> None:
    eventually(lambda: len(query(shop, "job:up:ratio")) >= len(TARGETS), within_s=60)
    assert query(shop, 'ALERTS{alertname="TargetDown",instance!="prometheus"}') == []


@pytest.mark.parametrize("job", COUNTED)
def test_counters_follow_the_load(shop: World, job: str) -> None:
    eventually(lambda: value(shop, COUNTED[job]) >= 0, within_s=60)
    before = value(shop, COUNTED[job])
    for _ in range(20):
        shop.curl("http://localhost:8080/api/products", "-f", "-H", "Cache-Control: no-cache").ok()
        shop.curl("http://localhost:8080/api/products", "-f").ok()
    eventually(lambda: value(shop, COUNTED[job]) >= before + 20, within_s=60)


def test_exporters_read_their_servers(shop: World) -> None:
    for name in ("nginx_up", "pg_up", "redis_up"):
        eventually(lambda name=name: value(shop, name) == 1, within_s=60)  # type: ignore[misc]
    assert value(shop, "pg_exporter_last_scrape_error") == 0
    assert value(shop, "redis_exporter_last_scrape_error") == 0
    assert {up for _, up in query(shop, "pg_scrape_collector_success")} == {1.0}


def test_stub_status_answers_the_monitoring_namespace_alone(shop: World) -> None:
    url, code = "http://10.0.0.10:8081/stub_status", ("-o", "/dev/null", "-w", "%{http_code}")
    assert "Active connections" in shop.curl(url, where="prometheus").ok().out
    assert shop.curl(url, *code, where="nginx-lb").ok().out == "403"
    for where in ("host", "api-gateway"):
        assert shop.curl(url, where=where).code == 7  # no such flow is declared
    for path in ("/stub_status", "/status", "/nginx_status", "/metrics"):
        done = shop.curl(f"http://localhost:8080{path}", *code, where="host").ok()
        assert done.out == "404"
    for port in (8081, 9090, *EXPORTERS.values()):
        done = shop.curl(f"http://203.0.113.2:{port}/", "--max-time", "2", where="outside")
        assert done.code == 7  # curl: failed to connect


def psql(shop: World, user: str, line: str) -> tuple[int, str]:
    password = "postgres-password" if user == "postgres" else f"postgres-{user}-password"
    words = ["env", f"PGPASSWORD={secret(shop, password)}", "psql", "-h", "10.0.0.60"]
    words += ["-U", user, "-d", "shop", "-v", "ON_ERROR_STOP=1", "-Atc", line]
    done = shop.inside("prometheus", *words)
    return done.code, done.text.strip()


@pytest.mark.parametrize(
    "line",
    [
        "SELECT * FROM products",
        "SELECT * FROM orders",
        "SELECT * FROM schema_migrations",
        "DELETE FROM products",
        "CREATE TABLE mine (x integer)",
        "CREATE ROLE other",
        "CREATE DATABASE other",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('/run/secrets/postgres-password')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'orders'",
    ],
)
def test_monitoring_role_of_postgres_can_only_look_at_statistics(shop: World, line: str) -> None:
    code, text = psql(shop, "monitoring", line)
    assert code != 0
    assert "permission denied" in text or "must be" in text, text


def test_monitoring_role_of_postgres_sees_the_statistics_of_all(shop: World) -> None:
    seen = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'product' AND query <> ''"
    code, text = psql(shop, "monitoring", f"{seen} AND query NOT LIKE '<insufficient%'")
    assert (code, int(text) > 0) == (0, True), text
    what = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit"
    assert psql(shop, "postgres", f"SELECT {what} FROM pg_roles WHERE rolname = 'monitoring'") == (
        0,
        "f|f|f|f|f|3",
    )
    member = "SELECT roleid::regrole FROM pg_auth_members WHERE member = 'monitoring'::regrole"
    assert psql(shop, "postgres", member) == (0, "pg_monitor")


def redis(shop: World, user: str, password: str, *words: str) -> str:
    login = f"REDISCLI_AUTH={secret(shop, password)}"
    options = ["redis-cli", "-h", "10.0.0.50", "--user", user, "--no-auth-warning"]
    return shop.inside("prometheus", "env", login, *options, *words).ok().text.strip()


@pytest.mark.parametrize(
    "words",
    [
        ["GET", "products:version"],
        ["SET", "products:version", "0"],
        ["KEYS", "*"],
        ["SCAN", "0"],
        ["CONFIG", "GET", "requirepass"],
        ["ACL", "LIST"],
        ["EVAL", "return 1", "0"],
        ["CLIENT", "LIST"],
        ["MONITOR"],
        ["FLUSHALL"],
        ["SHUTDOWN"],
    ],
)
def test_monitoring_user_of_redis_may_not(shop: World, words: list[str]) -> None:
    answer = redis(shop, "monitoring", "redis-monitoring-password", *words)
    assert answer.startswith("NOPERM"), answer


def test_exporter_of_redis_needs_what_it_may(shop: World) -> None:
    """No scrape asks for anything that is refused: the server keeps a log of that."""
    redis(shop, "admin", "redis-admin-password", "ACL", "LOG", "RESET")
    before = value(shop, 'redis_commands_total{cmd="info"}')
    eventually(lambda: value(shop, 'redis_commands_total{cmd="info"}') > before + 2, within_s=60)
    assert redis(shop, "admin", "redis-admin-password", "ACL", "LOG") == ""
    for each in ("slowlog|get", "slowlog|len", "latency|latest", "client|setname"):
        assert value(shop, f'redis_commands_total{{cmd="{each}"}}') > 0


def test_exporters_hold_no_secret_of_another(shop: World) -> None:
    """What a service can read of secrets is what lies in its own folder."""
    nodes = shop.run_dir / f"shop@{shop.host}" / "nodes"
    secrets = {
        path.name: path.read_text()
        for path in (shop.state / f"shop@{shop.host}" / "secrets").iterdir()
    }
    held = {}
    for name in ("prometheus", *EXPORTERS):
        files = [path for path in (nodes / name).rglob("*") if path.is_file()]
        texts = [path.read_text() for path in files]
        held[name] = {key for key, text in secrets.items() if any(text in each for each in texts)}
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} <= {0o400}
    assert held == {
        "prometheus": set(),
        "nginx-exporter": set(),
        "postgres-exporter": {"postgres-monitoring-password"},
        "redis-exporter": {"redis-monitoring-password"},
    }


def test_monitoring_lives_in_one_namespace_with_a_user_each(shop: World) -> None:
    rows = {row["node"]: row for row in shop.orchestrator("status", "--json").json()["nodes"]}
    pids = [rows[f"service:{name}"]["pid"] for name in ("prometheus", *EXPORTERS)]
    assert len({Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pids}) == 1
    assert len({Path(f"/proc/{pid}").stat().st_uid for pid in pids}) == 4
    nice = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16] for pid in pids]
    assert nice == ["5", "10", "10", "10"]


def test_rendered_configuration_is_valid_and_clean(shop: World, tmp_path: Path) -> None:
    """promtool with every lint, on what Prometheus was started with; it reads the rules too."""
    rendered = next(shop.run_dir.glob("*/nodes/prometheus/*-prometheus.yml"))
    config = tmp_path / "prometheus.yml"
    config.write_text(rendered.read_text().replace("/stack/", f"{ROOT}/services/"))
    words = ["promtool", "check", "config", "--lint=all", "--lint-fatal", config]
    done = shop.on_host(*words).ok()
    assert "targets.yml" in done.text
    broken = tmp_path / "rules"
    shutil.copytree(ROOT / "services/monitoring/rules", broken)
    (broken / "twice.yml").write_text((broken / "targets.yml").read_text().replace("0 and", "0 nd"))
    config.write_text(config.read_text().replace(f"{ROOT}/services/monitoring/rules", str(broken)))
    assert shop.on_host(*words).code != 0


def test_rules_are_loaded_and_evaluated(shop: World) -> None:
    groups = shop.curl(f"{PROMETHEUS}/api/v1/rules").json()["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert {"job:up:ratio", "TargetDown"} <= health.keys()
    eventually(lambda: value(shop, 'job:up:ratio{job="prometheus"}') == 1, within_s=60)


def test_replay_of_monitoring_keeps_the_time_series_and_touches_nobody(shop: World) -> None:
    oldest = 'min_over_time(timestamp(up{job="prometheus"})[2h:10s])'
    eventually(lambda: value(shop, oldest) > 0, within_s=60)
    before = value(shop, oldest)
    out = shop.orchestrator("replay", "monitoring").ok().out
    rebuilt = next(line for line in out.splitlines() if line.startswith("rebuilt:"))
    assert set(rebuilt.removeprefix("rebuilt:").replace(" ", "").split(",")) == {
        f"service:{name}" for name in ("prometheus", *EXPORTERS)
    }
    assert "0 disturbed" in out
    eventually(lambda: query(shop, oldest) != [], within_s=60)
    assert value(shop, oldest) <= before + 10
    assert set(shop.node_states().values()) == {"ready"}
