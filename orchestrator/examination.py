"""The whole examination of a host: reads the facts and asks the doctor about each."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from orchestrator import doctor, hostfacts, preparing
from orchestrator.app import App
from orchestrator.doctor import HELPERS, TOOLS, Finding, fail, ok, warn
from orchestrator.errors import OrchestratorError
from orchestrator.kernel import iptables
from orchestrator.kernel.netlink import Netlink
from orchestrator.linux import in_thread
from orchestrator.preflight import (
    foreign_names,
    listeners,
    missing_programs,
    overlapping_routes,
    taken_ports,
)
from orchestrator.presence import words
from orchestrator.processes import cgroup, seccomp
from orchestrator.processes.sandbox import STACK_DIR
from orchestrator.programs import SYSTEM_PATH
from orchestrator.resource import State
from orchestrator.terminal import counted
from orchestrator.users import FIRST_UID, LAST_UID


async def examine(app: App | None, problem: str, *, is_new: bool) -> list[Finding]:
    """Every finding. `is_new`: the lab's host is a namespace that `up` will make, empty."""
    is_root = os.geteuid() == 0
    path = ":".join(app.compiler.search_path() if app else SYSTEM_PATH)
    found = [doctor.python(sys.version_info[:3]), doctor.privileges(os.geteuid())]
    release = os.uname().release
    host = Netlink().snapshot()
    ips = [str(address.ip) for each in host.addresses.values() for address in each]
    outer = [ip for ip in ips if not ip.startswith("127.")]
    found += [each for each in (doctor.wsl(release, outer),) if each]
    found += doctor.kernel(await in_thread(hostfacts.try_kernel), is_root=is_root)
    names = dict.fromkeys((*TOOLS, *HELPERS, *(_commands(app) if app else ())))
    listed = [await in_thread(hostfacts.tool, name, path) for name in names]
    found += doctor.tools(listed)
    found += _stack_findings(app, problem)
    state = app.lab.state_dir if app else Path("/var/lib")
    found += [
        doctor.space("memory", hostfacts.memory_available(), doctor.MEMORY_LOW, doctor.MEMORY_NONE),
        doctor.space("disk", hostfacts.disk_free(state), doctor.DISK_LOW, doctor.DISK_NONE),
        doctor.user_ids(
            hostfacts.accounts_between(FIRST_UID, LAST_UID),
            has_last=hostfacts.has_user_id(LAST_UID),
        ),
        doctor.limits(cgroup.lacking(), cgroup.version()),
        doctor.seccomp(has_library=bool(seccomp.program())),
        *(await in_thread(_prepared, app) if app and is_root else ()),
        doctor.namespaces(hostfacts.stale_namespaces()),
    ]
    if is_new:
        return [*found, ok("host", "the namespace does not exist yet: `up` makes an empty one")]
    version = next((each.version for each in listed if each.name == "iptables-save"), "")
    return [*found, *await _network(app, version, set(host.links))]


def _prepared(app: App) -> list[Finding]:
    """What new labs find made already. All of it is read, to see whether it is whole."""
    found = []
    for _, wanted in preparing.jobs(app):
        descriptor, refused = wanted.store.open(wanted.key)
        if descriptor is not None:
            os.close(descriptor)
        place = str(wanted.store.directory) if descriptor is not None else ""
        found.append(doctor.prepared(wanted.node, place, refused))
    return found


def _commands(app: App) -> Iterator[str]:
    """Programs that the stack's services and jobs start."""
    commands = [each.command for each in app.stack.services.values()]
    for command in (*commands, *(each.command for each in app.stack.jobs.values())):
        if command and not command[0].startswith(f"{STACK_DIR}/"):
            yield command[0]


def _stack_findings(app: App | None, problem: str) -> Iterator[Finding]:
    if app is None:
        yield fail("stack file", problem, "orchestrator validate")
        return
    if problem:
        yield warn("host", problem, "run it with sudo")
    for reason, mend in missing_programs(app.stack, app.compiler):
        if STACK_DIR in reason:
            yield fail("stack file", reason, mend)
    yield ok("stack file", counted(len(app.stack.services), "service"))
    for line in words(app.left_out):
        yield ok("stack file", line)


async def _network(app: App | None, version: str, links: Collection[str]) -> list[Finding]:
    """What only makes sense on the host that the lab will live on."""
    programs = hostfacts.running(("dockerd", "containerd", "firewalld"))
    chains = await in_thread(hostfacts.forward_chains)
    tables, found = None, []
    try:
        tables = await iptables.save()
    except OrchestratorError as error:
        found.append(warn("rules", f"cannot be read: {error}", "use sudo"))
    bridges = ",".join(app.stack.networks) if app else "br-app"
    if tables:
        hook = f"{app.lab.chain_prefix}-FWD" if app else ""
        found += [*doctor.forwarding(tables, hook), doctor.other_chains(chains)]
        found.append(doctor.variants(version, hostfacts.legacy_tables(), chains))
    found += [
        doctor.bridge_netfilter(hostfacts.setting("net.bridge.bridge-nf-call-iptables")),
        doctor.docker(links, tables, programs),
        doctor.firewall(tables, chains, programs, bridges),
        doctor.ip_forward(
            hostfacts.setting("net.ipv4.ip_forward"),
            is_ours=await _is_there(app, "sysctl:ip_forward"),
        ),
        doctor.reverse_path(hostfacts.setting("net.ipv4.conf.all.rp_filter")),
        doctor.conntrack(
            hostfacts.number("/proc/sys/net/netfilter/nf_conntrack_count"),
            hostfacts.number("/proc/sys/net/netfilter/nf_conntrack_max"),
        ),
    ]
    return [*found, *(await _claims(app, can_read_rules=tables is not None) if app else [])]


async def _is_there(app: App | None, name: str) -> bool:
    node = app.nodes.get(name) if app else None
    return node is not None and (await node.resource.observe()).state is State.PRESENT


async def _claims(app: App, *, can_read_rules: bool) -> list[Finding]:
    """Ports, subnets and names that the stack wants for itself."""
    host = app.compiler.netlink.snapshot()
    overlaps = overlapping_routes(app.stack, app.lab, host)
    found = [fail("subnets", reason, mend) for reason, mend in overlaps]
    found = found or [ok("subnets", f"{', '.join(app.stack.networks)}: routed by nobody else")]
    ports = sorted(port.host for each in app.stack.services.values() for port in each.ports)
    same: list[str] = []
    if can_read_rules:
        taken, same = await taken_ports(app.stack, app.lab)
    else:
        mend = "stop that program, or publish another port"
        taken = [(f"port {port} is taken by {who}", mend) for port, who in listeners(ports).items()]
    listed = ", ".join(map(str, ports)) or "none"
    found += [fail("ports", reason, mend) for reason, mend in taken]
    found += [ok("ports", text) for text in same]
    found += [] if taken or same else [ok("ports", f"published: {listed}; nobody else's")]
    if os.geteuid() == 0:
        foreign = [fail("names", reason, mend) for reason, mend in await foreign_names(app.nodes)]
        found += foreign or [ok("names", "no link or namespace of others has a name of ours")]
    return found
