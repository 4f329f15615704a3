"""Judgements about this host: small facts in, findings with their mend out; no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from orchestrator.hostfacts import BaseChain, Tool
from orchestrator.kernel.iptables import Tables
from orchestrator.preflight import PACKAGES
from orchestrator.users import FIRST_UID, LAST_UID

MIB = 1 << 20
# A database and some interpreters; PostgreSQL's shared_buffers alone are 128 MB by default.
MEMORY_LOW, MEMORY_NONE = 512 * MIB, 128 * MIB
# A new PostgreSQL cluster has about 40 MB, and WAL segments of 16 MB up to max_wal_size, 1 GB.
DISK_LOW, DISK_NONE = 1024 * MIB, 200 * MIB
CONNTRACK_FULL = 0.9
OLDEST_PYTHON = (3, 11)
MODULES = {  # what to load or build where a trial fails: lsmod(8) names
    "bridge": "bridge",
    "veth pair": "veth",
    "iptables nat": "nf_nat",
    "iptables filter": "nf_tables or iptable_filter",
    "iptables raw": "nf_tables or iptable_raw",
    "iptables MASQUERADE": "xt_MASQUERADE",
    "iptables DNAT": "xt_nat",
    "iptables addrtype": "xt_addrtype",
    "iptables conntrack": "xt_conntrack",
    "iptables comment": "xt_comment",
}
OPTIONAL = {"bridge tables": "nf_tables"}  # CONFIG_NF_TABLES_BRIDGE; a lab lives without
TOOLS = ("bwrap", "setpriv", "iptables-save", "iptables-restore")  # without them nothing runs
HELPERS = ("ip", "ping", "curl", "unshare")  # for verify, doctor and people
HELPER_PACKAGES = {
    "ip": "iproute2",
    "ping": "iputils-ping",
    "curl": "curl",
    "unshare": "util-linux",
}


class Level(StrEnum):
    """OK; worth knowing; in the way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """One thing looked at: how it stands, what was found, what to do."""

    check: str
    level: Level
    found: str
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, mend: str = "") -> Finding:
    return Finding(check, Level.WARN, found, mend)


def fail(check: str, found: str, mend: str) -> Finding:
    return Finding(check, Level.FAIL, found, mend)


# -- judgements: facts in, findings out ----------------------------------------------------


def python(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return fail("python", f"{text}, 3.11 or newer is needed", "apt-get install python3.11")
    return ok("python", text)


def privileges(euid: int) -> Finding:
    if euid == 0:
        return ok("privileges", "root")
    return warn("privileges", "not root: rules and others' sockets stay unseen", "use sudo")


def kernel(results: Mapping[str, str], *, is_root: bool) -> Iterator[Finding]:
    """One finding per trial; without root a failure may only mean that root is needed."""
    for name, error in results.items():
        if not error:
            yield ok(f"kernel: {name}", "works")
        elif name in OPTIONAL:
            yield warn(f"kernel: {name}", error, f"modprobe {OPTIONAL[name]}, or live without")
        elif not is_root:
            yield warn(f"kernel: {name}", f"without root: {error}", "use sudo to know")
        elif module := MODULES.get(name):
            mend = f"modprobe {module}, or a kernel that has it"
            yield fail(f"kernel: {name}", error, mend)
        else:
            mend = (
                "a host or container with CAP_SYS_ADMIN and CAP_NET_ADMIN, and /proc/sys writable"
            )
            yield fail(f"kernel: {name}", error, mend)


def tools(found: Sequence[Tool]) -> Iterator[Finding]:
    for each in found:
        if each.path:
            yield ok(f"tool: {each.name}", f"{each.version[:60]} ({each.path})".lstrip())
        elif each.name in HELPERS:
            mend = f"apt-get install {HELPER_PACKAGES[each.name]}"
            yield warn(f"tool: {each.name}", "not installed; verify and people use it", mend)
        else:
            package = PACKAGES.get(each.name)
            mend = f"apt-get install {package}" if package else f"install {each.name}"
            yield fail(f"tool: {each.name}", "not installed", mend)


def wsl(release: str, addresses: Sequence[str]) -> Finding | None:
    """Windows' localhost relay follows listening sockets; a published port is none.

    Source: microsoft/WSL, doc/docs/technical-documentation/localhost.md.
    """
    if "microsoft" not in release.lower():
        return None
    at = addresses[0] if addresses else "the address that `hostname -I` tells"
    text = (
        "WSL2. Inside of it localhost works as everywhere; Windows' own localhost reaches only "
        "ports with a listening socket, and a published port is a rule without one"
    )
    return warn("wsl", text, f"from Windows use http://{at}:<port>; it changes with each start")


def forwarding(tables: Tables, hook: str) -> Iterator[Finding]:
    """The FORWARD chain: its policy, and what stands before our hook."""
    policy = tables.policies.get(("filter", "FORWARD"), "ACCEPT")
    if policy == "ACCEPT":
        yield ok("FORWARD policy", "ACCEPT")
    else:
        text = f"{policy} (Docker and firewalls set it): our rules stand first and accept our own"
        yield warn("FORWARD policy", text)
    rules = [line for line in tables.lines("filter") if line.startswith("-A FORWARD ")]
    ours = next((at for at, line in enumerate(rules) if line.endswith(f"-j {hook}")), 0)
    risky = [line for line in rules[:ours] if may_drop(tables, line, frozenset())]
    if risky:
        mend = "`orchestrator down`, then `up`: that puts our hook first"
        yield warn("FORWARD order", f"before our hook: {'; '.join(risky)}", mend)
    else:
        yield ok("FORWARD order", "nothing that drops stands before our hook")


def may_drop(tables: Tables, line: str, seen: frozenset[str]) -> bool:
    """Whether the rule drops, or leads into a chain in which one does."""
    target = line.split(" -j ")[-1].split()[0] if " -j " in line else ""
    if target in ("DROP", "REJECT"):
        return True
    if target in seen or target not in tables.chains.get("filter", ()):
        return False
    inner = [each for each in tables.lines("filter") if each.startswith(f"-A {target} ")]
    return any(may_drop(tables, each, seen | {target}) for each in inner)


def other_chains(chains: Sequence[BaseChain]) -> Finding:
    """nftables lets a packet pass only if every base chain does: nft(8), VERDICT STATEMENTS."""
    others = [each for each in chains if (each.table, each.name) != ("filter", "FORWARD")]
    if not others:
        return ok("nftables", "no forward chain but that of iptables")
    named = ", ".join(f"{each.family} {each.table} {each.name}" for each in others)
    mend = "accept our bridges there too, e.g. `iifname br-app accept` and `oifname br-app accept`"
    drops = any(each.drops for each in others)
    text = "policy drop" if drops else "its rules apply besides ours"
    return warn("nftables", f"{named}: {text}", mend)


def variants(version: str, legacy: Collection[str], chains: Sequence[BaseChain]) -> Finding:
    """The two implementations of iptables do not see each other, and a packet passes both."""
    kind = "nft" if "nf_tables" in version else "legacy"
    mend = "use one: update-alternatives --config iptables; then reboot"
    if kind == "nft" and legacy:
        text = f"iptables is the nft variant, but legacy tables are in use: {', '.join(legacy)}"
        return warn("iptables variant", text, mend)
    if kind == "legacy" and any(each.table == "filter" for each in chains):
        text = "iptables is the legacy variant, but nft tables of iptables are in use"
        return warn("iptables variant", text, mend)
    return ok("iptables variant", kind)


def bridge_netfilter(value: str | None) -> Finding:
    """net.bridge.bridge-nf-call-iptables: Documentation/networking/ip-sysctl.rst."""
    if value is None:
        return ok("br_netfilter", "not loaded: bridged frames pass no iptables rules")
    if value == "0":
        return ok("br_netfilter", "loaded, but off for iptables here")
    return ok("br_netfilter", "on: bridged frames pass FORWARD, where our rules accept them")


def docker(links: Collection[str], tables: Tables | None, programs: Collection[str]) -> Finding:
    chains = set(tables.chains.get("filter", ())) if tables else set()
    signs = [name for name in links if name == "docker0"]
    signs += [f"chain {name}" for name in sorted(chains) if name.startswith("DOCKER")][:1]
    signs += [name for name in programs if name in ("dockerd", "containerd")]
    if not signs:
        return ok("docker", "not here")
    text = f"here ({', '.join(signs)}): sets FORWARD to DROP, our rules accept what is ours"
    mend = "after a restart of Docker see `orchestrator status`; `down` and `up` put us first again"
    return warn("docker", text, mend)


def firewall(
    tables: Tables | None, chains: Sequence[BaseChain], programs: Collection[str], bridges: str
) -> Finding:
    filters = set(tables.chains.get("filter", ())) if tables else set()
    if "firewalld" in programs or any(each.table == "firewalld" for each in chains):
        mend = f"firewall-cmd --zone=trusted --add-interface={bridges}"
        return warn("firewall", "firewalld: has chains of its own that also judge forwarding", mend)
    if any(name.startswith("ufw-") for name in filters):
        text = "ufw: its rules come after ours, so published ports are open whatever it says"
        return warn("firewall", text, "to keep a port closed to others, do not publish it")
    return ok("firewall", "neither ufw nor firewalld is active")


def ip_forward(value: str | None, *, is_ours: bool = False) -> Finding:
    if value is None:
        return fail("ip_forward", "this kernel has no net.ipv4.ip_forward", "mount /proc/sys")
    if is_ours:
        return ok("ip_forward", "set by this lab: `down` puts it back")
    text = (
        "on already, stays as it is" if value == "1" else "off: `up` sets it, `down` puts it back"
    )
    return ok("ip_forward", text)


def reverse_path(value: str | None) -> Finding:
    """Our paths are symmetric, so strict mode (1, RFC 3704) suits as well."""
    words = {"0": "off", "1": "strict", "2": "loose"}
    return ok("rp_filter", f"{words.get(value or '', value)}: suits, our paths are symmetric")


def conntrack(count: int | None, limit: int | None) -> Finding:
    if count is None or not limit:
        return ok("conntrack", "not in use yet")
    text = f"{count:,} of {limit:,} connections"
    if count < CONNTRACK_FULL * limit:
        return ok("conntrack", text)
    return warn("conntrack", text, f"sysctl -w net.netfilter.nf_conntrack_max={limit * 2}")


def namespaces(stale: Sequence[str]) -> Finding:
    if not stale:
        return ok("/run/netns", "every name is a live namespace")
    text = f"stale files, no namespaces: {', '.join(stale)}"
    return warn("/run/netns", text, f"ip netns delete {stale[0]}")


def space(check: str, free: int | None, low: int, none: int) -> Finding:
    if free is None:
        return warn(check, "unknown")
    text = f"{free // MIB:,} MiB free"
    if free < none:
        return fail(check, text, f"free at least {low // MIB:,} MiB")
    return (
        warn(check, text, f"free some: {low // MIB:,} MiB suit") if free < low else ok(check, text)
    )


def user_ids(taken: Sequence[str], *, has_last: bool) -> Finding:
    """Services get ids of systemd's dynamic range: systemd.io/UIDS-GIDS."""
    span = f"{FIRST_UID}-{LAST_UID}"
    if not has_last:
        mend = "give the container the whole range of 65,536 ids"
        return fail("user ids", f"{span} do not exist in this user namespace", mend)
    if taken:
        text = f"accounts in {span}: {', '.join(taken)}; a service may get the same id"
        return warn("user ids", text, "give the service that user by name, or move the account")
    return ok("user ids", f"{span} are free for services")


def prepared(node: str, place: str, refused: Sequence[str]) -> Finding:
    """What `prepare` made for a job: without it only the first `up` takes longer."""
    mend = "orchestrator prepare, or leave it to the supervisor"
    if refused:
        return warn(f"prepared: {node}", "; ".join(refused), mend)
    if not place:
        return warn(f"prepared: {node}", "not yet: the next new lab takes longer to start", mend)
    return ok(f"prepared: {node}", f"in {place}")


def limits(lacking: Mapping[str, str], version: int) -> Finding:
    """Control groups for memory and tasks: cgroups(7)."""
    if not lacking:
        return ok("limits", f"memory and tasks of each service, by cgroup v{version}")
    why = "; ".join(f"{name}: {reason}" for name, reason in lacking.items())
    text = f"no control group for {why}; instead each process has RLIMIT_DATA or RLIMIT_NPROC"
    mend = "a host, or a container with a writable /sys/fs/cgroup and its controllers delegated"
    return warn("limits", text, mend)


def seccomp(*, has_library: bool) -> Finding:
    if has_library:
        return ok("seccomp", "system calls that no service needs are denied")
    text = "libseccomp is not installed: no filter of system calls"
    return warn("seccomp", text, "apt-get install libseccomp2")
