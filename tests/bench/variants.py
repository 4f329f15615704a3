"""The shop, and the same shop in other circumstances, each as a stack of its own.

All are made from services/stack.yaml, so that what is compared differs in one thing alone.
"""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from rig import ROOT

BASELINE = Path(__file__).parent / "baseline"
TEMPLATE = "edge/nginx.conf"
OBSERVERS = "monitoring"  # the layer
UNOBSERVED_PORT, OPEN_PORT = 8081, 8082
# A single client is to be let through as fast as it can be served.
FAST_CLIENT = {"CLIENT_REQUESTS_PER_S": "1000000", "CLIENT_BURST": "100000"}
Stack = dict[str, Any]


def shop(directory: Path) -> Path:
    """The shop with two more edges: one that does not observe, and one that does not even limit
    what a client may. Gateway and services are the same processes behind all three."""
    stack = _copy(directory)
    _add_edge(stack, "edge-unobserved", "10.0.0.11", UNOBSERVED_PORT, TEMPLATE)
    template = directory / TEMPLATE
    (template.parent / "open.conf").write_text(_without_limits(template.read_text()))
    _add_edge(stack, "edge-open", "10.0.0.12", OPEN_PORT, "edge/open.conf")
    return _write(directory, stack)


def namespaces(directory: Path) -> Path:
    """Unobserved."""
    stack = _copy(directory)
    _unobserved(stack)
    stack["services"]["nginx-lb"]["environment"] = dict(FAST_CLIENT)
    return _write(directory, stack)


def loopback(directory: Path) -> Path:
    """The same, all in one namespace, so that every connection is over its loopback."""
    stack = _copy(directory)
    _unobserved(stack)
    stack["flows"] = []  # there is nobody else
    services = stack["services"]
    for name in [name for name in services if name != "nginx-lb"]:
        services[name].pop("networks")
        services[name].pop("outbound", None)  # the namespace's
        services[name]["namespace"] = "nginx-lb"
    orders = services["order-service"]  # beside the product service it needs a port of its own
    orders["environment"]["PORT"] = "5001"
    orders["readiness"]["tcp"] = orders["readiness"]["http"]["port"] = 5001
    services["api-gateway"]["environment"]["ORDER_URL"] = "http://order-service:5001"
    services["nginx-lb"]["environment"] = dict(FAST_CLIENT)
    return _write(directory, stack)


def textbook(directory: Path) -> Path:
    """Flask's own server in gateway and services, the nginx of a tutorial; no observers."""
    stack = _copy(directory)
    shutil.copytree(BASELINE, directory / "baseline")
    _unobserved(stack)
    services = stack["services"]
    for name, program in (
        ("api-gateway", "gateway"),
        ("product-service", "product"),
        ("order-service", "order"),
    ):
        service = services[name]
        service["command"] = ["python", f"/stack/baseline/{program}.py"]
        service["environment"]["PYTHONPATH"] = "/stack/baseline"
        service["readiness"].pop("notify", None)  # Flask's server knows of no supervisor
        service.pop("listen", None)
    orders = services["order-service"]  # asks its neighbour for the price
    orders["environment"]["PRODUCT_URL"] = "http://product-service:5000"
    orders["needs"] = [*orders["needs"], "product-service"]
    accounts = services["redis-cache"]["accounts"]
    for name in ("product", "order"):
        accounts[name]["may"] = ["~textbook:*", "+@all"]
    # Each request under way has connections of its own; with the shop's 50 it would refuse many.
    services["postgres-db"]["command"] += ["-c", "max_connections=200"]
    services["nginx-lb"]["files"]["/tmp/nginx/nginx.conf"]["template"] = "baseline/nginx.conf"
    return _write(directory, stack)


def _add_edge(stack: Stack, name: str, address: str, port: int, template: str) -> None:
    edge = copy.deepcopy(stack["services"]["nginx-lb"])
    del edge["path_log"]
    edge["networks"] = {"br-app": {"address": address, "interface": f"veth-e{port}"}}
    edge["command"] = [word.replace("/tmp/nginx/", f"/tmp/{name}/") for word in edge["command"]]
    edge["files"] = {f"/tmp/{name}/nginx.conf": {"template": template, "on_host": True}}
    edge["ports"] = [f"{port}:80"]
    edge["environment"] = dict(FAST_CLIENT)
    stack["services"][name] = edge


def _without_limits(template: str) -> str:
    """What is left when nobody has thought of clients that ask for too much, or too slowly."""
    limits = r"^ *(limit_\w+|client_(max_body|header_timeout|body_timeout)\w*|send_timeout"
    limits += r"|reset_timedout\w+) (\{\{.*?\}\}|[^;{}])*;"
    found, count = re.subn(limits, "", template, flags=re.MULTILINE)
    if count < 12:
        raise SystemExit(f"{TEMPLATE}: only {count} limits were found")
    return found


def _copy(directory: Path) -> Stack:
    shutil.copytree(ROOT / "services", directory)
    found: Stack = yaml.safe_load((directory / "stack.yaml").read_text())
    return found


def _write(directory: Path, stack: Stack) -> Path:
    path = directory / "stack.yaml"
    path.write_text(yaml.safe_dump(stack, sort_keys=False))
    return path


def _unobserved(stack: Stack) -> None:
    """Without hop accounting, Prometheus and exporters."""
    services = stack["services"]
    for name in [name for name, each in services.items() if each.get("layer") == OBSERVERS]:
        del services[name]
    del services["nginx-lb"]["path_log"]
    known = {*services, "host"}
    stack["flows"] = [flow for flow in stack.get("flows", []) if _ends(flow) <= known]


def _ends(flow: Stack) -> set[str]:
    ends = (flow["from"], flow["to"])
    return {name for end in ends for name in ([end] if isinstance(end, str) else end)}
