"""The shop, and the same shop in other circumstances, each as a stack of its own.

All are made from services/stack.yaml, so that what is compared differs in one thing alone:
textbook code in the services, no observers, or one namespace for all.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from rig import ROOT

BASELINE = Path(__file__).parent / "baseline"
OBSERVERS = "monitoring"  # the layer
Stack = dict[str, Any]


def textbook(directory: Path) -> Path:
    """Flask's own server in gateway and services, the nginx of the seed; no observers."""
    stack = _copy(directory)
    shutil.copytree(BASELINE, directory / "baseline")
    _unobserved(stack)
    for name, program in (
        ("api-gateway", "gateway"),
        ("product-service", "product"),
        ("order-service", "order"),
    ):
        service = stack["services"][name]
        service["command"] = ["python", f"/stack/baseline/{program}.py"]
        service["environment"]["PYTHONPATH"] = "/stack/baseline"
        service["readiness"].pop("notify", None)  # Flask's server knows of no supervisor
        service.pop("listen", None)
    orders = stack["services"]["order-service"]  # asks its neighbour for the price
    orders["environment"]["PRODUCT_URL"] = "http://product-service:5000"
    orders["needs"] = [*orders["needs"], "product-service"]
    # Each request under way has connections of its own; with the shop's 50 it would refuse many.
    stack["services"]["postgres-db"]["command"] += ["-c", "max_connections=200"]
    files = stack["services"]["nginx-lb"]["files"]
    files["/tmp/nginx/nginx.conf"]["template"] = "baseline/nginx.conf"
    return _write(directory, stack)


def unobserved(directory: Path) -> Path:
    """Without hop accounting, Prometheus and exporters."""
    stack = _copy(directory)
    _unobserved(stack)
    return _write(directory, stack)


def loopback(directory: Path) -> Path:
    """Unobserved, and all in one namespace, so that every connection is over its loopback."""
    stack = _copy(directory)
    _unobserved(stack)
    stack["flows"] = []  # there is nobody else
    services = stack["services"]
    for name in [name for name in services if name != "nginx-lb"]:
        services[name].pop("networks")
        services[name].pop("outbound", None)  # the namespace's
        services[name]["namespace"] = "nginx-lb"
    orders = services["order-service"]  # beside the product service it needs a port of its own
    orders["command"] = ["5001" if word == "5000" else word for word in orders["command"]]
    orders["readiness"]["tcp"] = orders["readiness"]["http"]["port"] = 5001
    services["api-gateway"]["environment"]["ORDER_URL"] = "http://order-service:5001"
    return _write(directory, stack)


def _copy(directory: Path) -> Stack:
    shutil.copytree(ROOT / "services", directory)
    found: Stack = yaml.safe_load((directory / "stack.yaml").read_text())
    return found


def _write(directory: Path, stack: Stack) -> Path:
    path = directory / "stack.yaml"
    path.write_text(yaml.safe_dump(stack, sort_keys=False))
    return path


def _unobserved(stack: Stack) -> None:
    services = stack["services"]
    for name in [name for name, each in services.items() if each.get("layer") == OBSERVERS]:
        del services[name]
    del services["nginx-lb"]["path_log"]
    known = {*services, "host"}
    stack["flows"] = [flow for flow in stack.get("flows", []) if _ends(flow) <= known]


def _ends(flow: Stack) -> set[str]:
    ends = (flow["from"], flow["to"])
    return {name for end in ends for name in ([end] if isinstance(end, str) else end)}
