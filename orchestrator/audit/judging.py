"""Judgements about one service's live processes: facts in, findings out; no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from msgspec import Struct

from orchestrator.audit.findings import Finding, judged, skipped
from orchestrator.audit.looking import Entry, Process, Seen
from orchestrator.terminal import counted

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
FILTERED = "2"  # SECCOMP_MODE_FILTER of linux/seccomp.h
OWN = ("pid", "ipc", "uts", "mnt", "cgroup")
# Private to the sandbox, and gone with it; /dev holds the harmless devices only.
PRIVATE = ("/tmp", "/run", "/dev", "/dev/pts", "/dev/shm", "/var/tmp", "/proc", "/run/notify")
HIDDEN = "no /home, /sys, /etc/shadow, /var/lib, state directory"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


class Claim(Struct, frozen=True):
    """What is said of a service."""

    name: str
    uid: int
    data: tuple[str, ...]
    secrets: frozenset[str]
    netns: int
    ports: frozenset[int]
    own_places: tuple[str, ...]  # of the lab's directories on the host: its data and its log


class Host(Struct, frozen=True):
    """What every service is held against."""

    namespaces: Mapping[str, int]
    secrets: Mapping[str, str]  # the texts, by name
    lab_places: tuple[str, ...]  # the lab's directories on the host
    devices: Mapping[str, int]  # of /tmp and so on
    has_filter: bool


def of_service(
    claim: Claim, seen: Seen, others: Mapping[str, Seen], host: Host
) -> Iterator[Finding]:
    """Every finding about it. `others` are the services beside it."""
    programs = [each for each in seen.processes if not each.is_init]
    yield _user(claim, programs, others)
    yield _capabilities(claim.name, seen.processes)
    yield _no_new_privileges(claim.name, seen.processes)
    yield _filter(claim.name, seen.processes, is_there=host.has_filter)
    yield _namespaces(claim, seen, others, host)
    yield _mounts(claim, seen, others, host)
    visible = [f"{path} can be seen" for path in seen.visible]
    yield judged("2.7", claim.name, visible, HIDDEN)
    yield _secrets(claim, seen.secrets)
    yield _told(claim.name, seen.processes, host.secrets)
    yield _open_files(claim, programs, host)


def _user(claim: Claim, programs: Collection[Process], others: Mapping[str, Seen]) -> Finding:
    wrong = []
    for each in programs:
        for key in ("Uid", "Gid"):
            ids = set(each.status[key].split())
            if ids != {str(claim.uid)}:
                wrong.append(f"{each.name} ({each.pid}) has {key} {each.status[key]}")
        if groups := set(each.status["Groups"].split()) - {str(claim.uid)}:
            wrong.append(f"{each.name} ({each.pid}) is in groups {', '.join(sorted(groups))}")
    if claim.uid == 0:
        wrong.append("it runs as root")
    for name, other in others.items():
        if any(
            str(claim.uid) in each.status["Uid"].split()
            for each in other.processes
            if not each.is_init
        ):
            wrong.append(f"{name} has the same user id {claim.uid}")
    return judged("2.1", claim.name, wrong, f"uid {claim.uid}, {counted(len(programs), 'process')}")


def _capabilities(name: str, processes: Collection[Process]) -> Finding:
    wrong = []
    for each in processes:
        # Bubblewrap's pid 1 keeps its bounding set; with no_new_privs it cannot use it.
        kinds = [kind for kind in CAPABILITIES if not (each.is_init and kind == "CapBnd")]
        held = [f"{kind} {each.status[kind]}" for kind in kinds if int(each.status[kind], 16)]
        wrong += [f"{each.name} ({each.pid}) has {', '.join(held)}"] if held else []
    return judged("2.2", name, wrong, f"{', '.join(CAPABILITIES)} are 0")


def _no_new_privileges(name: str, processes: Collection[Process]) -> Finding:
    wrong = [
        f"{each.name} ({each.pid}) has NoNewPrivs {each.status['NoNewPrivs']}"
        for each in processes
        if each.status["NoNewPrivs"] != "1"
    ]
    return judged("2.3", name, wrong, "NoNewPrivs 1")


def _filter(name: str, processes: Collection[Process], *, is_there: bool) -> Finding:
    if not is_there:
        return skipped("2.4", name, "libseccomp is not installed: see `orchestrator doctor`")
    wrong = [
        f"{each.name} ({each.pid}) has Seccomp {each.status.get('Seccomp', 'unknown')}"
        for each in processes
        if each.status.get("Seccomp") != FILTERED
    ]
    return judged("2.4", name, wrong, f"Seccomp {FILTERED} (filter)")


def _namespaces(claim: Claim, seen: Seen, others: Mapping[str, Seen], host: Host) -> Finding:
    wrong = []
    for kind in OWN:
        inode = seen.namespaces.get(kind)
        if inode is None:
            continue  # a kernel without it
        if inode == host.namespaces.get(kind):
            wrong.append(f"{kind}: the host's ({inode})")
        wrong += [
            f"{kind}: {name}'s ({inode})"
            for name, other in others.items()
            if other.namespaces.get(kind) == inode
        ]
    if seen.namespaces["net"] != claim.netns:
        wrong.append(f"net: {seen.namespaces['net']}, not {claim.netns}")
    text = ", ".join(f"{kind} {inode}" for kind, inode in seen.namespaces.items())
    return judged("2.5", claim.name, wrong, text)


def _mounts(claim: Claim, seen: Seen, others: Mapping[str, Seen], host: Host) -> Finding:
    devices = {f"/dev/{name}" for name in DEVICES}
    allowed = {*PRIVATE, *claim.data, *devices}
    writable = [each for each in seen.mounts if not each.is_read_only]
    wrong = [
        f"{each.place} ({each.kind}) is writable" for each in writable if each.place not in allowed
    ]
    for place, device in seen.private.items():
        if device == host.devices.get(place):
            wrong.append(f"{place} is the host's")
        wrong += [f"{place} is {n}'s" for n, o in others.items() if o.private[place] == device]
    own = ", ".join(claim.data) or "nothing"
    count = len(seen.mounts) - len(writable)
    text = f"{count} mounts read-only; writable: {own}, and private /tmp, /run, /dev/shm"
    return judged("2.6", claim.name, wrong, text)


def _secrets(claim: Claim, found: Collection[Entry]) -> Finding:
    names = {each.path.removesuffix(".next") for each in found}
    wrong = [f"{name} is not its" for name in sorted(names - claim.secrets)]
    wrong += [f"{name} is not there" for name in sorted(claim.secrets - names)]
    wrong += [
        f"{each.path} has mode {each.mode:04o}, owner {each.uid}"
        for each in found
        if each.mode & 0o377 or each.uid != claim.uid
    ]
    listed = ", ".join(sorted(names))
    return judged("2.8", claim.name, wrong, f"{listed}: 0400" if names else "has none")


def _told(name: str, processes: Collection[Process], secrets: Mapping[str, str]) -> Finding:
    wrong = [
        f"{where} of {each.name} ({each.pid}) holds {secret}"
        for each in processes
        for where, text in (("environment", each.environment), ("command line", each.command))
        for secret, value in secrets.items()
        if value.encode() in text
    ]
    text = f"none of {len(secrets)} secrets in /proc/PID/environ and cmdline"
    return judged("2.9", name, wrong, text)


def _open_files(claim: Claim, programs: Collection[Process], host: Host) -> Finding:
    """Paths are as the host sees them where they were opened there, else as the sandbox does."""
    wrong = [
        f"{each.name} ({each.pid}) has {path} open"
        for each in programs
        for path in each.open_files
        if path.startswith(host.lab_places) and not path.startswith(claim.own_places)
    ]
    count = sum(len(each.open_files) for each in programs)
    return judged("2.10", claim.name, wrong, f"{count} open files: its own log, data, and system's")
