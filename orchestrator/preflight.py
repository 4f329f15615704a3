"""What must hold on this host before anything is changed; each miss says how to mend it."""

from __future__ import annotations

import errno
import re
import shutil
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from orchestrator.engine.plan import Node
from orchestrator.errors import HostError
from orchestrator.kernel import iptables
from orchestrator.kernel.netlink import Snapshot
from orchestrator.lab import Lab
from orchestrator.processes.sandbox import STACK_DIR
from orchestrator.resource import State
from orchestrator.spec import Stack
from orchestrator.stack import Compiler

TCP_LISTEN = "0A"  # include/net/tcp_states.h
PACKAGES = {
    "bwrap": "bubblewrap",
    "setpriv": "util-linux",
    "iptables-save": "iptables",
    "iptables-restore": "iptables",
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "postgres": "postgresql",
    "initdb": "postgresql",
    "prometheus": "prometheus",
}


async def check_host(
    stack: Stack, lab: Lab, compiler: Compiler, nodes: Mapping[str, Node]
) -> list[str]:
    """What is worth a word. Raises HostError with everything that stands in the way."""
    problems = [
        *missing_programs(stack, compiler),
        *unreadable_directory(compiler.directory),
        *overlapping_routes(stack, lab, compiler.netlink.snapshot()),
    ]
    same: list[str] = []
    if not problems:
        taken, same = await taken_ports(stack, lab)
        problems += [*taken, *await foreign_names(nodes)]
    if problems:
        reasons = "\n".join(reason for reason, _ in problems)
        mends = "; ".join(dict.fromkeys(mend for _, mend in problems))
        raise HostError(reasons, mend=mends)
    return same


def missing_programs(stack: Stack, compiler: Compiler) -> list[tuple[str, str]]:
    """Tools of ours and commands of the stack that are not installed, with the mend."""
    path = ":".join(compiler.search_path())
    wanted = dict.fromkeys(("bwrap", "setpriv"), "the orchestrator")
    wanted |= dict.fromkeys(("iptables-save", "iptables-restore"), "the orchestrator")
    commands = {name: service.command for name, service in stack.services.items()}
    commands |= {name: job.command for name, job in stack.jobs.items()}
    for name, command in commands.items():
        if command:
            wanted.setdefault(command[0], name)
    found = []
    for program, user in wanted.items():
        if program.startswith(f"{STACK_DIR}/"):
            there = (compiler.directory / program.removeprefix(f"{STACK_DIR}/")).is_file()
        else:
            there = shutil.which(program, path=path) is not None
        if not there:
            package = PACKAGES.get(program)
            mend = f"apt-get install {package}" if package else f"install {program}"
            found.append((f"{program}, which {user} runs, is not installed", mend))
    return found


def unreadable_directory(directory: Path) -> list[tuple[str, str]]:
    """The stack file's directory, if services, which are users of their own, cannot read it."""
    if directory.stat().st_mode & 0o005 == 0o005:
        return []
    mend = f"chmod -R o+rX {directory}"
    return [(f"services see {directory} as /stack, but may not read it", mend)]


def overlapping_routes(stack: Stack, lab: Lab, host: Snapshot) -> list[tuple[str, str]]:
    """Networks of the stack that this host already routes elsewhere."""
    found = []
    names = {link.index: link for link in host.links.values()}
    for name, network in stack.networks.items():
        subnet = network.address.network
        for route in host.routes:
            via = names.get(route.oif)
            ours = via is not None and via.group == lab.group
            if route.destination.prefixlen and route.destination.overlaps(subnet) and not ours:
                device = via.name if via else "?"
                reason = f"network {name} ({subnet}) overlaps with the host's route "
                mend = f"give {name} another subnet in the stack file"
                found.append((f"{reason}{route.destination} dev {device}", mend))
    return found


async def taken_ports(stack: Stack, lab: Lab) -> tuple[list[tuple[str, str]], list[str]]:
    """Published ports on which the host already answers, or which others redirect, with the mend;
    and rules of others that lead just where ours do, which are in nobody's way."""
    published = {
        port.host: (name, f"{stack.address_of(name)}:{port.service}")
        for name, service in stack.services.items()
        for port in service.ports
    }
    if not published:
        return [], []
    found, same = [], []
    for port, owner in sorted(listeners(published).items()):
        mend = f"stop that program, or publish another port for {published[port][0]}"
        found.append((f"port {port} of this host is taken by {owner}", mend))
    for rule in (await iptables.save()).rules:
        if f'"{lab.mark} ' in rule.line:
            continue
        for port, (name, place) in published.items():
            if not redirects(rule.line, port):
                continue
            if re.search(rf" --to-destination {re.escape(place)}(?: |$)", rule.line):
                same.append(f"port {port} is led to {name} by another rule too: {rule.line}")
            else:
                mend = f"remove that rule, or publish another port for {name}"
                found.append((f"port {port} is already redirected by: {rule.line}", mend))
    return found, same


async def foreign_names(nodes: Mapping[str, Node]) -> list[tuple[str, str]]:
    """Links and namespaces of others that have a name of ours."""
    found = []
    for name, node in nodes.items():
        if name.partition(":")[0] in ("bridge", "netns", "veth"):
            seen = await node.resource.observe()
            if seen.state is State.FOREIGN:
                mend = "remove it, or use another name in the stack file"
                found.append((f"{name}: {seen.detail}", mend))
    return found


def redirects(line: str, port: int) -> bool:
    """Whether a rule, as iptables-save prints it, sends TCP for that port elsewhere."""
    match = re.search(r"-p tcp .*--dports? (\S+) .*-j (?:DNAT|REDIRECT)", line)
    if match is None:
        return False
    spans = [part.partition(":") for part in match[1].split(",")]
    return any(int(low) <= port <= int(high or low) for low, _, high in spans)


def listeners(ports: Iterable[int]) -> dict[int, str]:
    """Which of the ports has a listening TCP socket here, and who holds it."""
    # First by trying: for /proc/net/tcp the kernel walks the table of all connections, 4 ms each.
    wanted, inodes = {port for port in ports if not _is_free(port)}, {}
    if not wanted:
        return {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = Path(table)
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == TCP_LISTEN and port in wanted:
                inodes[fields[9]] = port
    owners = dict.fromkeys(inodes.values(), "another program")
    if not inodes:
        return owners
    for directory in Path("/proc").glob("[0-9]*/fd"):
        try:
            for descriptor in directory.iterdir():
                target = str(descriptor.readlink())
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    pid = directory.parent.name
                    name = (directory.parent / "comm").read_text().strip()
                    owners[inodes[target[8:-1]]] = f"{name} (pid {pid})"
        except OSError:
            continue
    return owners


def _is_free(port: int) -> bool:
    """Whether certainly nobody listens there: we could, for either family. False may mean that we
    may not (ip_unprivileged_port_start), or that a connection has the port."""
    for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                trial.bind((anywhere, port))
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no such family here
                return False
    return True


def host_addresses(snapshot: Snapshot) -> list[IPv4Address]:
    """Addresses of this host, loopback and link-local ones left out."""
    found = [each.ip for listed in snapshot.addresses.values() for each in listed]
    return [ip for ip in found if not ip.is_loopback and not ip.is_link_local]
