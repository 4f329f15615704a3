"""How services find each other by name, and names of the outside: hosts(5), resolv.conf(5)."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from orchestrator.spec import Stack

RESOLVED = Path("/run/systemd/resolve/resolv.conf")  # systemd-resolved(8): the real servers


def hosts_for(stack: Stack, own: Collection[str]) -> str:
    """/etc/hosts of whoever is on these networks: every service's name, on a network that both
    share where there is one."""
    lines = ["127.0.0.1\tlocalhost"]
    for name in stack.services:
        networks = stack.services[stack.home_of(name)].networks
        shared = [network for network in networks if network in own] or list(networks)
        lines.append(f"{networks[shared[0]].address}\t{name}")
    return "\n".join(lines) + "\n"


def resolver() -> dict[str, str]:
    """Name servers for the namespaces, where the host's own are on its loopback."""
    try:
        own = Path("/etc/resolv.conf").read_text()
    except OSError:
        return {}
    if re.search(r"^\s*nameserver\s+127\.", own, re.MULTILINE) and RESOLVED.exists():
        return {"resolv.conf": RESOLVED.read_text()}
    return {}
