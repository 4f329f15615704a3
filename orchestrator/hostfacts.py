"""Small facts about this host, read where the kernel keeps them; changes nothing."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from orchestrator import linux
from orchestrator.kernel import sysctl

TIMEOUT_S = 30.0
FORWARD_HOOK = 2  # NF_INET_FORWARD of linux/netfilter.h
DROP_POLICY = 0  # NF_DROP of linux/netfilter.h
INET_FAMILIES = {1: "inet", 2: "ip"}  # NFPROTO_INET, NFPROTO_IPV4
VERSION_FLAG = {"ip": "-V", "ping": "-V", "nginx": "-v"}
HAVE_VERSION = {
    *VERSION_FLAG,
    *("iptables-save", "iptables-restore", "bwrap", "setpriv", "unshare", "curl", "python"),
    *("redis-server", "postgres", "initdb", "prometheus", "node"),
}


class Tool(Struct, frozen=True):
    """A program: where it was found (or not) and what it calls its version."""

    name: str
    path: str | None
    version: str


class BaseChain(Struct, frozen=True):
    """A chain of nftables that forwarded packets pass."""

    family: str
    table: str
    name: str
    drops: bool  # its policy


def tool(name: str, path: str) -> Tool:
    """The program as it would be found in that PATH."""
    found = shutil.which(name, path=path)
    version = ""
    if found and name in HAVE_VERSION:
        done = _run([found, VERSION_FLAG.get(name, "--version")])
        lines = (done.stdout + done.stderr).strip().splitlines() if done else []
        version = lines[0] if lines else ""
    return Tool(name, found, version)


def _run(words: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def try_kernel() -> dict[str, str]:
    """What orchestrator.trial found: name → why it failed, or nothing. In a child process."""
    is_root = os.geteuid() == 0
    words = ["unshare", "--net", "--mount"]
    words += [] if is_root else ["--user", "--map-root-user"]
    words += [sys.executable, "-m", "orchestrator.trial", *(["--root"] if is_root else [])]
    done = _run(words)
    if done is None:
        return {"network namespace": "unshare is not installed, or did not end"}
    try:
        return {"network namespace": "", **json.loads(done.stdout)}
    except ValueError:
        lines = done.stderr.strip().splitlines()
        return {"network namespace": lines[-1] if lines else f"exit code {done.returncode}"}


def number(path: str | Path) -> int | None:
    """The number in a file of /proc or /sys; None if there is none."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def setting(key: str) -> str | None:
    """A kernel setting; None if this kernel does not have it, or does not show it."""
    try:
        return sysctl.read(key)
    except OSError:
        return None


def memory_available() -> int | None:
    """Bytes that programs can still have: proc_meminfo(5)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def disk_free(path: Path) -> int:
    """Bytes free for root where the path is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def stale_namespaces() -> list[str]:
    """Files in /run/netns that are no namespaces: left by a crash or a reboot."""
    try:
        return sorted(
            path.name for path in linux.NETNS_DIR.iterdir() if not linux.is_namespace(path)
        )
    except OSError:
        return []


def accounts_between(first: int, last: int) -> list[str]:
    """Accounts of this host with a user id in that range."""
    return [entry.pw_name for entry in pwd.getpwall() if first <= entry.pw_uid <= last]


def has_user_id(uid: int) -> bool:
    """Whether the id exists here: a user namespace may have few; user_namespaces(7)."""
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(int(start) <= uid < int(start) + int(count) for start, _, count in ranges)


def running(names: Iterable[str]) -> set[str]:
    """Which of the programs run now, by the name of their process."""
    wanted, found = set(names), set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            name = path.read_text().strip()
        except OSError:
            continue
        if name in wanted:
            found.add(name)
    return found


def legacy_tables() -> list[str]:
    """Tables of the old iptables that are in use here (root only)."""
    try:
        return Path("/proc/net/ip_tables_names").read_text().split()
    except OSError:
        return []


def forward_chains() -> list[BaseChain]:
    """Base chains of nftables at the forward hook, iptables' own among them (root only)."""
    from pyroute2.nftables.main import NFTables

    found = []
    try:
        with NFTables(nfgen_family=0) as tables:  # AF_UNSPEC: every family
            for chain in tables.get_chains():
                hook = chain.get_attr("NFTA_CHAIN_HOOK")
                family = INET_FAMILIES.get(chain["nfgen_family"])
                if hook and family and hook.get_attr("NFTA_HOOK_HOOKNUM") == FORWARD_HOOK:
                    drops = chain.get_attr("NFTA_CHAIN_POLICY") == DROP_POLICY
                    table = chain.get_attr("NFTA_CHAIN_TABLE")
                    found.append(BaseChain(family, table, chain.get_attr("NFTA_CHAIN_NAME"), drops))
    except Exception:  # noqa: BLE001 - no nftables in this kernel, or not root: nothing to see
        return []
    return found
