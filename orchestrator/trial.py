"""Tries in throw-away namespaces whether this kernel can do what a lab needs.

Run as a program of its own: `unshare --net --mount python -m orchestrator.trial`. Whatever it
makes ends with it. Prints one JSON object: what was tried → why it failed, or nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from orchestrator import linux
from orchestrator.kernel import nftables, sysctl
from orchestrator.kernel.netlink import Netlink
from orchestrator.kernel.rtnetlink import new_bridge, new_veth, set_link
from orchestrator.processes import etc, seccomp
from orchestrator.processes.sandbox import STACK_DIR, Sandbox, User

TIMEOUT_S = 20.0
BRIDGE_TABLES = "bridge tables"
BRIDGE, PORT, PEER = "br-try", "veth-try-br", "veth-try"
MAC = "02:00:00:00:00:{:02x}"  # locally administered
ANYBODY = User(61184, 61184, "try")  # first of systemd's DynamicUser range, as services have

# One rule for each thing that our rules are made of; 192.0.2.0/24 is TEST-NET-1 (RFC 5737).
RULES = {
    "iptables nat": "*nat\n-A POSTROUTING -j ACCEPT",
    "iptables filter": "*filter\n-A FORWARD -i {bridge} -o {bridge} -j ACCEPT",
    "iptables raw": "*raw\n-A PREROUTING -d 127.0.0.0/8 -i {bridge} -j DROP",
    "iptables MASQUERADE": "*nat\n-A POSTROUTING -s 192.0.2.0/24 ! -o {bridge} -j MASQUERADE",
    "iptables DNAT": "*nat\n-A PREROUTING -p tcp -m tcp --dport 80 "
    "-j DNAT --to-destination 192.0.2.1:80",
    "iptables addrtype": "*nat\n-A OUTPUT -m addrtype --dst-type LOCAL -j ACCEPT",
    "iptables conntrack": "*filter\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED,DNAT "
    "-j ACCEPT",
    "iptables comment": '*filter\n-A FORWARD -m comment --comment "a trial" -j ACCEPT',
}


def bridge() -> None:
    Netlink().apply_here("bridge", "try", [new_bridge(BRIDGE, mac=MAC.format(1), group=0)])


def veth() -> None:
    """A pair from the bridge into a second namespace, as each service has one."""
    netlink = Netlink()
    here = linux.own_namespace()
    linux.unshare_net()
    there = linux.own_namespace()
    linux.setns(here)
    pair = new_veth(
        PORT,
        mac=MAC.format(2),
        master=netlink.snapshot().links[BRIDGE].index,
        group=0,
        peer=PEER,
        peer_mac=MAC.format(3),
        peer_namespace=there,
    )
    netlink.apply_here("veth", "try", [pair])
    for name, where in ((PORT, None), (PEER, Path(f"/proc/self/fd/{there}"))):
        index = netlink.snapshot(where).links[name].index
        netlink.apply_here("veth", "try", [set_link(index, up=True)], where)


def named_namespace() -> None:
    """A namespace bound to a file, as ip-netns(8) does it."""
    with tempfile.NamedTemporaryFile() as file:
        linux.mount("/proc/self/ns/net", file.name, linux.MS_BIND)
        try:
            if not linux.is_namespace(Path(file.name)):
                raise OSError("the file is no namespace after the mount")
        finally:
            linux.unmount(file.name)


def settings() -> None:
    """The settings that a lab changes can be written."""
    for key in ("net.ipv4.ip_forward", f"net.ipv4.conf.{BRIDGE}.route_localnet"):
        sysctl.write(key, "1")
        if sysctl.read(key) != "1":
            raise OSError(f"{key} cannot be changed")


def pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def sandbox() -> None:
    """A program runs in the sandbox that every service gets."""
    denied = seccomp.descriptor()
    with tempfile.TemporaryDirectory() as directory:
        place = etc.furnish(Path(directory))
        box = Sandbox(("true",), ANYBODY, "try", place, read_only={STACK_DIR: Path("/usr")})
        words = box.words(info_fd=2, seccomp_fd=denied)
        _run(words, "", keep=[] if denied is None else [denied])


def rule(text: str) -> None:
    """The rule is really put in: nothing less asks the kernel for the modules."""
    program = shutil.which("iptables-restore", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise OSError("iptables-restore is not installed")
    _run([program, "--noflush"], text.format(bridge=BRIDGE) + "\nCOMMIT\n")


def bridge_tables() -> None:
    """Rules where frames enter a bridge, for the guard against false addresses."""
    if not nftables.is_supported(nftables.BRIDGE):
        raise OSError("no nf_tables for bridges: frames with another's address are not dropped")


def _run(words: list[str], text: str, *, keep: Sequence[int] = ()) -> None:
    done = subprocess.run(
        words,
        input=text,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        pass_fds=keep,
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise OSError("; ".join(lines[:2]) or f"exit code {done.returncode}")


def trials(*, is_root: bool) -> dict[str, Callable[[], None]]:
    """What is tried, in an order in which later ones find what they need."""
    found: dict[str, Callable[[], None]] = {
        "bridge": bridge,
        "veth pair": veth,
        "named namespace": named_namespace,
        "network settings": settings,
        "pidfd": pidfd,
        BRIDGE_TABLES: bridge_tables,
    }
    found |= {name: partial(rule, text) for name, text in RULES.items()}
    if is_root:  # a user namespace has one user id only, and services get one each
        found["sandbox"] = sandbox
    return found


def main() -> None:
    results = {}
    with tempfile.NamedTemporaryFile() as lock:
        os.environ["XTABLES_LOCKFILE"] = lock.name  # iptables(8): the usual one needs root
        for name, attempt in trials(is_root="--root" in sys.argv).items():
            try:
                attempt()
                results[name] = ""
            except Exception as error:  # noqa: BLE001 - each failure is a result
                results[name] = str(error) or type(error).__name__
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
