"""The whole platform: every command of the seed document, and clients from all sides."""

from __future__ import annotations

import itertools
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attempts import PLACES
from names import next_name
from rig import HOST_ADDRESS, OUTSIDE_ADDRESS, World, run

ORDER = {"customer_id": 7, "product_id": 1, "quantity": 2}
JSON = ("-H", "Content-Type: application/json")
KEY = ("-H", "Idempotency-Key: a")
TWICE = '{"customer_id": 7, "product_id": 1, "quantity": 1, "quantity": 2}'


def order(shop: World, body: dict[str, object], *options: str) -> tuple[int, dict[str, object]]:
    done = shop.curl(
        "http://localhost:8080/api/orders",
        "-d",
        json.dumps(body),
        *JSON,
        "-w",
        "\n%{http_code}",
        *options,
    ).ok()
    text, _, code = done.out.rpartition("\n")
    return int(code), json.loads(text)


def test_namespaces_are_listed_under_their_names(shop: World) -> None:
    listed = {line.split()[0] for line in run("ip", "netns", "list").ok().out.splitlines()}
    assert {f"{shop.host}.{name}" for name in PLACES} <= listed


def test_bridge_has_seven_veths_with_the_names_of_the_seed(shop: World) -> None:
    out = shop.on_host("ip", "link", "show", "type", "veth", "master", "br-app").ok().out
    names = set(re.findall(r"\d+: (\S+)@", out))
    shorts = ("nginx", "gateway", "product", "order", "redis", "pg", "prom")
    assert names == {f"veth-{short}-br" for short in shorts}
    assert "10.0.0.1/16" in shop.on_host("ip", "addr", "show", "br-app").out


def test_every_namespace_pings_every_other(shop: World) -> None:
    pairs = [(a, PLACES[b]) for a, b in itertools.permutations(PLACES, 2)]
    assert len(pairs) == 42
    with ThreadPoolExecutor(8) as pool:
        codes = pool.map(
            lambda pair: shop.inside(pair[0], "ping", "-c", "2", "-i", "0.2", pair[1]).code, pairs
        )
    assert set(codes) == {0}


@pytest.mark.parametrize("service", PLACES)
def test_names_resolve_in_every_namespace(shop: World, service: str) -> None:
    assert "10.0.0.60" in shop.inside(service, "ping", "-c", "1", "postgres-db").ok().out


@pytest.mark.parametrize("service", PLACES)
def test_outbound_goes_out_behind_the_address_of_the_host(shop: World, service: str) -> None:
    """The outside has no route back to 10.0.0.0/16, so an answer proves the translation."""
    shop.inside(service, "ping", "-c", "1", OUTSIDE_ADDRESS).ok()


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ("host", "http://localhost:8080"),
        ("host", "http://127.0.0.1:8080"),
        ("host", f"http://{HOST_ADDRESS}:8080"),
        ("host", "http://10.0.0.1:8080"),
        ("outside", f"http://{HOST_ADDRESS}:8080"),
        *((service, "http://10.0.0.1:8080") for service in PLACES),
        ("nginx-lb", f"http://{HOST_ADDRESS}:8080"),
        ("api-gateway", "http://10.0.0.10"),
    ],
)
def test_port_8080_answers_from_every_side(shop: World, where: str, url: str) -> None:
    assert shop.curl(f"{url}/health", where=where).ok().out == "OK\n"
    assert "Mechanical keyboard" in shop.curl(f"{url}/api/products", where=where).ok().out


def test_localhost_without_a_path_answers_too(shop: World) -> None:
    found = shop.curl("http://localhost:8080", "-f").json()
    assert set(found) == {"health", "products", "orders", "openapi"}
    for path in (found["health"], found["products"], found["openapi"]):
        shop.curl(f"http://localhost:8080{path}", "-f").ok()


def test_nat_table_shows_the_rules_with_their_purpose(shop: World) -> None:
    out = shop.on_host("iptables", "-t", "nat", "-L", "-v", "-n").ok().out
    assert re.search(r"DNAT .*tcp dpt:8080 .*to:10\.0\.0\.10:80", out)
    assert re.search(r"MASQUERADE .*!br-app +10\.0\.0\.0/16", out)
    live = shop.on_host("iptables-save").ok().out
    ours = [line for line in live.splitlines() if "-j ORC-" in line or "-A ORC-" in line]
    assert ours
    assert all(f"orchestrator:shop@{shop.host} " in line for line in ours)


def test_empty_key_is_none_at_all(shop: World) -> None:
    made = [order(shop, ORDER, "-H", "Idempotency-Key;") for _ in range(2)]
    assert [code for code, _ in made] == [201, 201]
    assert len({found["order_id"] for _, found in made}) == 2


def test_order_takes_stock_and_is_read_back(shop: World) -> None:
    def stock() -> int:
        return int(shop.curl("http://localhost:8080/api/products/1").json()["stock"])

    before = stock()
    code, made = order(shop, ORDER)
    assert code == 201
    assert made["status"] == "created"
    read = shop.curl(f"http://localhost:8080/api/orders/{made['order_id']}").json()
    assert (read["customer_id"], read["quantity"], read["total_price"]) == ("7", 2, 179.8)
    assert stock() == before - 2  # the cached answer went with the order


def test_idempotency_key_makes_one_order_of_many_requests(shop: World) -> None:
    key = ("-H", "Idempotency-Key: once")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: order(shop, ORDER, *key), range(16)))
    assert {code for code, _ in answers} == {201}
    assert len({made["order_id"] for _, made in answers}) == 1
    code, problem = order(shop, {**ORDER, "quantity": 3}, *key)
    assert code == 422
    assert "another request" in str(problem["detail"])


def test_stock_is_never_oversold(shop: World) -> None:
    left = int(shop.curl("http://localhost:8080/api/products/5").json()["stock"])
    want = left // 4
    body = {"customer_id": "greedy", "product_id": 5, "quantity": want}
    with ThreadPoolExecutor(12) as pool:
        codes = sorted(code for code, _ in pool.map(lambda _: order(shop, body), range(12)))
    assert codes == [201] * 4 + [409] * 8
    now = shop.curl("http://localhost:8080/api/products/5").json()["stock"]
    assert now == left - 4 * want


@pytest.mark.parametrize(
    ("status", "path", "options"),
    [
        (404, "/nowhere", ()),
        (404, "/api/products/999999", ()),
        (404, "/api/products/99999999999999999999", ()),
        (404, "/api/orders/999999", ()),
        (404, "/api/orders/-1", ()),
        (405, "/api/products", ("-X", "DELETE")),
        (400, "/api/orders", ("-d", "{", *JSON)),
        (400, "/api/orders", ("-d", "", *JSON)),
        (422, "/api/sessions", ("-d", '{"customer_id": "a b"}', *JSON)),
        (415, "/api/orders", ("-d", "{}")),
        (415, "/api/orders", ("-d", "{}", *JSON, "-H", "Content-Encoding: gzip")),
        (400, "/api/orders", ("-d", TWICE, *JSON)),
        (400, "/api/orders", ("-d", TWICE.replace('"quantity": 2', '"quantit\\u0079": 2'), *JSON)),
        (400, "/api/orders", ("-d", json.dumps(ORDER), *JSON, *KEY, "-H", "Idempotency-Key: b")),
        (400, "/api/orders", ("-d", json.dumps(ORDER), *JSON, *KEY, *KEY)),
        (400, "/api/sessions", ("-d", '{"customer_id": 1, "customer_id": 2}', *JSON)),
        (400, "/api/orders", ("-d", "[" * 60_000, *JSON)),
        (422, "/api/orders", ("-d", "{}", *JSON)),
        (422, "/api/orders", ("-d", '{"customer_id":1,"product_id":1,"quantity":-1}', *JSON)),
        (422, "/api/orders", ("-d", '{"customer_id":1,"product_id":"1","quantity":1}', *JSON)),
        (422, "/api/orders", ("-d", '{"customer_id":"a\\nb","product_id":1,"quantity":1}', *JSON)),
        (
            422,
            "/api/orders",
            ("-d", '{"customer_id":1,"product_id":1,"quantity":1,"total_price":1}', *JSON),
        ),
        (
            422,
            "/api/orders",
            ("-d", '{"customer_id":1,"product_id":1,"quantity":1,"total_price":"0E-40000"}', *JSON),
        ),
        (404, "/api/orders", ("-d", '{"customer_id":1,"product_id":777,"quantity":1}', *JSON)),
        (422, "/api/orders?limit=0&customer_id=1", ()),
        (422, "/api/orders", ()),
        (422, "/api/orders?limit=1_0&customer_id=1", ()),
        (422, "/api/products?limit=x", ()),
        (422, "/api/products?limit=%2B1", ()),
        (422, "/api/products?limit=1&limit=2", ()),
        (422, "/api/orders?customer_id=a&customer_id=b", ()),
        (401, "/api/cart", ()),
        (401, "/api/cart", ("-H", b"X-Session-Id: \xff".decode("utf-8", "surrogateescape"))),
        (400, "/api/products/%00", ()),
        (405, "/api/products", ("-X", "FOO")),
        (414, "/" + "a" * 9000, ()),
        (413, "/api/orders", ("-d", "x" * 70_000, *JSON)),
    ],
)
def test_every_error_is_a_problem_document(
    shop: World, status: int, path: str, options: tuple[str, ...]
) -> None:
    done = shop.curl(
        f"http://localhost:8080{path}", *options, "-w", "\n%{http_code} %{content_type}"
    ).ok()
    text, _, last = done.out.rpartition("\n")
    code, _, kind = last.partition(" ")
    assert (int(code), kind.split(";")[0]) == (status, "application/problem+json"), text
    problem = json.loads(text)
    assert problem["status"] == status
    assert "Traceback" not in text


def test_orders_are_paged_newest_first(shop: World) -> None:
    made = [order(shop, {**ORDER, "customer_id": "pager"})[1]["order_id"] for _ in range(5)]
    seen: list[int] = []
    cursor = ""
    while True:
        url = f"http://localhost:8080/api/orders?customer_id=pager&limit=2{cursor}"
        page = shop.curl(url).json()
        seen += [each["order_id"] for each in page["orders"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == sorted(made, reverse=True)


def test_processes_have_their_own_users_and_no_capabilities(shop: World) -> None:
    rows = shop.orchestrator("status", "--json").json()["nodes"]
    pids = {row["node"]: row["pid"] for row in rows if row["pid"]}
    assert len(pids) == 10
    users = set()
    for pid in pids.values():
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        users.add(status["Uid"].split()[0])
    assert len(users) == 10
    assert "0" not in users


def test_password_is_scram_and_readable_by_nobody_else(shop: World) -> None:
    secrets = shop.state / f"shop@{shop.host}" / "secrets"
    assert secrets.stat().st_mode & 0o077 == 0
    for path in secrets.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert path.stat().st_uid == 0
        secret = path.read_text()
        assert len(secret) >= 32
        commands = b"".join(each.read_bytes() for each in Path("/proc").glob("[0-9]*/cmdline"))
        assert secret.encode() not in commands
    environments = run("bash", "-c", "cat /proc/[0-9]*/environ 2>/dev/null").out
    assert all(path.read_text() not in environments for path in secrets.iterdir())
    stored = shop.on_host(
        "env",
        f"PGPASSWORD={(secrets / 'postgres-password').read_text()}",
        "psql",
        "-h",
        "10.0.0.60",
        "-U",
        "postgres",
        "-d",
        "shop",
        "-Atc",
        "SELECT count(*) FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256%'",
    ).ok()
    assert stored.out.strip() == "4"


def test_seed_shows_its_nginx_configuration(shop: World) -> None:
    rendered = next(shop.run_dir.glob("*/nodes/nginx-lb/*-nginx.conf"))
    text = shop.inside("nginx-lb", "cat", rendered).ok().out
    for line in ("worker_connections 1024", "server 10.0.0.20:3000", "listen 80", "X-Real-IP"):
        assert line in text


def test_nginx_of_the_seed_takes_the_configuration_and_finds_its_port_taken(shop: World) -> None:
    """As in the seed, from outside of the sandbox: what it opens can be opened there, too."""
    left = [Path("/tmp/nginx.pid"), Path("/run/lock/requests.tsv")]
    ours = [path for path in left if not path.exists()]
    # A private lab has no link to it in the host's /tmp.
    text = next(shop.run_dir.glob("*/nodes/nginx-lb/*-nginx.conf"))
    try:
        shop.inside("nginx-lb", "nginx", "-t", "-c", text).ok()
        again = shop.inside("nginx-lb", "nginx", "-c", text)
    finally:
        for path in ours:
            path.unlink(missing_ok=True)
    assert again.code == 1
    assert "bind() to 0.0.0.0:80 failed (98: Address already in use)" in again.err
    assert "open()" not in again.err


def test_status_lists_all_as_ready_and_up_again_is_a_no_op(shop: World) -> None:
    assert set(shop.node_states().values()) == {"ready"}
    assert "already up" in shop.orchestrator("up").ok().out


@pytest.mark.parametrize("victim", ["product-service", "order-service"])
def test_restart_of_a_service_costs_no_request(shop: World, victim: str) -> None:
    """Clients go on while it is killed and brought up again; the gateway waits for it."""
    done = threading.Event()

    def client(number: int) -> list[int]:
        codes = []
        while not done.is_set():
            body = {"customer_id": f"client-{number}", "product_id": 4, "quantity": 1}
            codes.append(order(shop, body)[0])
            answer = shop.curl(
                "http://localhost:8080/api/products",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-H",
                "Cache-Control: no-cache",
            )
            codes.append(int(answer.ok().out))
        return codes

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        try:
            shop.kill(victim)
            shop.orchestrator("up").ok()
        finally:
            done.set()
    codes = [code for each in clients for code in each.result()]
    assert set(codes) == {200, 201}


def test_data_outlives_down_and_up(shop: World) -> None:
    code, made = order(shop, {**ORDER, "customer_id": "keeper"})
    assert code == 201
    session = shop.curl("http://localhost:8080/api/sessions", "-X", "POST").json()["session_id"]
    shop.orchestrator("down").ok()
    shop.orchestrator("up").ok()
    kept = shop.curl(f"http://localhost:8080/api/orders/{made['order_id']}").json()
    assert kept["customer_id"] == "keeper"
    header = ("-H", f"X-Session-Id: {session}")
    assert shop.curl("http://localhost:8080/api/cart", *header).json()["items"] == []


def test_second_lab_with_the_same_addresses_runs_beside_the_first(
    shop: World, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    other = World.build(next_name(), tmp_path)
    try:
        other.orchestrator("up").ok()
        assert other.curl("http://localhost:8080/health").ok().out == "OK\n"
        assert shop.curl("http://localhost:8080/health").ok().out == "OK\n"
        other.orchestrator("down", "--volumes").ok()
        assert shop.curl("http://localhost:8080/api/products").ok().code == 0
    finally:
        other.orchestrator("down", "--volumes")
        other.remove()


def test_proving_the_shop_again_and_again_does_not_sell_it_out(shop: World) -> None:
    def stock() -> int:
        options = ("-f", "-H", "Cache-Control: no-cache")
        found = shop.curl("http://localhost:8080/api/products/4", *options).ok().json()
        return int(found["stock"])

    shop.orchestrator("verify").ok()
    left = stock()
    shop.orchestrator("verify").ok()
    assert stock() == left
