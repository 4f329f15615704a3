"""Each judgement over the facts that lead to it; then the whole command, which only looks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import doctor
from orchestrator.doctor import MIB, Finding, Level
from orchestrator.hostfacts import BaseChain, Tool, disk_free, tool
from orchestrator.kernel.iptables import Tables, parse
from orchestrator.trial import RULES

HOOK = "ORC-SHOP-FWD"
OURS = f'-A FORWARD -m comment --comment "orchestrator:shop hook" -j {HOOK}'


def tables(*rules: str, policy: str = "ACCEPT", chains: tuple[str, ...] = ()) -> Tables:
    """A filter table as iptables-save -c prints it."""
    lines = ["*filter", f":FORWARD {policy} [0:0]", *(f":{name} - [0:0]" for name in chains)]
    return parse("\n".join([*lines, *(f"[0:0] {rule}" for rule in rules), "COMMIT"]))


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 10, 12), Level.FAIL), ((3, 11, 0), Level.OK), ((3, 14, 1), Level.OK)],
)
def test_python_must_be_new_enough(version: tuple[int, ...], level: Level) -> None:
    assert doctor.python(version).level is level


@pytest.mark.parametrize(("euid", "level"), [(0, Level.OK), (1000, Level.WARN)])
def test_privileges_are_told(euid: int, level: Level) -> None:
    assert doctor.privileges(euid).level is level


def test_kernel_trial_that_failed_names_the_module() -> None:
    (found,) = doctor.kernel({"iptables addrtype": "No such file"}, is_root=True)
    assert found.level is Level.FAIL
    assert "modprobe xt_addrtype" in found.mend


def test_kernel_trial_that_failed_without_root_is_no_verdict() -> None:
    (found,) = doctor.kernel({"network namespace": "Operation not permitted"}, is_root=False)
    assert found.level is Level.WARN


def test_kernel_trial_that_failed_for_root_asks_for_capabilities() -> None:
    (found,) = doctor.kernel({"named namespace": "Operation not permitted"}, is_root=True)
    assert (found.level, "CAP_SYS_ADMIN" in found.mend) == (Level.FAIL, True)


def test_every_rule_that_is_tried_has_a_module_to_name() -> None:
    assert set(RULES) <= set(doctor.MODULES)


@pytest.mark.parametrize(
    ("name", "path", "level", "mend"),
    [
        ("bwrap", "/usr/bin/bwrap", Level.OK, ""),
        ("bwrap", None, Level.FAIL, "apt-get install bubblewrap"),
        ("postgres", None, Level.FAIL, "apt-get install postgresql"),
        ("own-program", None, Level.FAIL, "install own-program"),
        ("curl", None, Level.WARN, "apt-get install curl"),
    ],
)
def test_tools_say_how_to_get_them(name: str, path: str | None, level: Level, mend: str) -> None:
    (found,) = doctor.tools([Tool(name, path, "1.0")])
    assert (found.level, found.mend) == (level, mend)


@pytest.mark.parametrize(
    ("release", "is_told"),
    [("5.15.90.1-microsoft-standard-WSL2", True), ("6.1.0-18-amd64", False)],
)
def test_wsl_is_known_by_its_kernel(release: str, is_told: bool) -> None:
    found = doctor.wsl(release, ["172.20.0.2"])
    assert (found is not None) is is_told
    assert found is None or "172.20.0.2" in found.mend


FOREIGN = ("-A FORWARD -s 10.77.0.0/24 -j FOREIGN", "-A FOREIGN -j DROP")


@pytest.mark.parametrize(
    ("live", "levels"),
    [
        (tables(), [Level.OK, Level.OK]),
        (tables(policy="DROP"), [Level.WARN, Level.OK]),
        (tables(OURS, chains=(HOOK,)), [Level.OK, Level.OK]),
        (tables(OURS, "-A FORWARD -j DROP", chains=(HOOK,)), [Level.OK, Level.OK]),
        (tables("-A FORWARD -j DROP", OURS, chains=(HOOK,)), [Level.OK, Level.WARN]),
        (tables("-A FORWARD -j ACCEPT", OURS, chains=(HOOK,)), [Level.OK, Level.OK]),
        (tables(*FOREIGN, OURS, chains=(HOOK, "FOREIGN")), [Level.OK, Level.WARN]),
        (tables(FOREIGN[0], OURS, chains=(HOOK, "FOREIGN")), [Level.OK, Level.OK]),
        (tables("-A FORWARD -j REJECT --reject-with x"), [Level.OK, Level.OK]),
    ],
    ids=[
        "empty",
        "policy",
        "ours alone",
        "drop after ours",
        "drop before ours",
        "accept before ours",
        "chain with a drop before ours",
        "harmless chain before ours",
        "ours not there yet",
    ],
)
def test_forwarding_looks_at_policy_and_order(live: Tables, levels: list[Level]) -> None:
    assert [each.level for each in doctor.forwarding(live, HOOK)] == levels


def test_chains_that_lead_into_each_other_end_the_search() -> None:
    live = tables("-A A -j B", "-A B -j A", chains=("A", "B"))
    assert not doctor.may_drop(live, "-A FORWARD -j A", frozenset())


IPTABLES = BaseChain("ip", "filter", "FORWARD", drops=True)
FIREWALLD = BaseChain("inet", "firewalld", "filter_FORWARD", drops=False)


@pytest.mark.parametrize(
    ("chains", "level"),
    [
        ([], Level.OK),
        ([IPTABLES], Level.OK),
        ([IPTABLES, FIREWALLD], Level.WARN),
        ([BaseChain("inet", "mine", "forward", drops=True)], Level.WARN),
    ],
)
def test_nftables_of_others_are_told(chains: list[BaseChain], level: Level) -> None:
    assert doctor.other_chains(chains).level is level


@pytest.mark.parametrize(
    ("version", "legacy", "chains", "level"),
    [
        ("iptables-save v1.8.9 (nf_tables)", [], [IPTABLES], Level.OK),
        ("iptables-save v1.8.9 (nf_tables)", ["nat"], [IPTABLES], Level.WARN),
        ("iptables-save v1.8.9 (legacy)", ["nat"], [], Level.OK),
        ("iptables-save v1.8.9 (legacy)", ["nat"], [IPTABLES], Level.WARN),
    ],
)
def test_mix_of_iptables_variants_is_told(
    version: str, legacy: list[str], chains: list[BaseChain], level: Level
) -> None:
    assert doctor.variants(version, legacy, chains).level is level


@pytest.mark.parametrize("value", [None, "0", "1"])
def test_bridge_netfilter_is_no_obstacle(value: str | None) -> None:
    assert doctor.bridge_netfilter(value).level is Level.OK


@pytest.mark.parametrize(
    ("links", "live", "programs", "level"),
    [
        ({"lo", "eth0"}, tables(), set(), Level.OK),
        ({"lo", "docker0"}, tables(), set(), Level.WARN),
        ({"lo"}, tables(chains=("DOCKER-USER",)), set(), Level.WARN),
        ({"lo"}, None, {"dockerd"}, Level.WARN),
    ],
)
def test_docker_is_found_by_any_sign(
    links: set[str], live: Tables | None, programs: set[str], level: Level
) -> None:
    assert doctor.docker(links, live, programs).level is level


@pytest.mark.parametrize(
    ("live", "chains", "programs", "word"),
    [
        (tables(), [], set(), "neither"),
        (tables(chains=("ufw-before-forward",)), [], set(), "ufw: "),
        (tables(), [FIREWALLD], set(), "firewalld: "),
        (None, [], {"firewalld"}, "firewalld: "),
    ],
)
def test_firewall_is_named(
    live: Tables | None, chains: list[BaseChain], programs: set[str], word: str
) -> None:
    assert doctor.firewall(live, chains, programs, "br-app").found.startswith(word)


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (doctor.ip_forward("0"), Level.OK),
        (doctor.ip_forward("1"), Level.OK),
        (doctor.ip_forward("1", is_ours=True), Level.OK),
        (doctor.ip_forward(None), Level.FAIL),
        (doctor.reverse_path("1"), Level.OK),
        (doctor.reverse_path(None), Level.OK),
        (doctor.conntrack(None, None), Level.OK),
        (doctor.conntrack(10, 100), Level.OK),
        (doctor.conntrack(95, 100), Level.WARN),
        (doctor.namespaces([]), Level.OK),
        (doctor.namespaces(["redis-cache"]), Level.WARN),
        (doctor.space("memory", 900 * MIB, 512 * MIB, 128 * MIB), Level.OK),
        (doctor.space("memory", 300 * MIB, 512 * MIB, 128 * MIB), Level.WARN),
        (doctor.space("memory", 100 * MIB, 512 * MIB, 128 * MIB), Level.FAIL),
        (doctor.space("memory", None, 512 * MIB, 128 * MIB), Level.WARN),
        (doctor.user_ids([], has_last=True), Level.OK),
        (doctor.user_ids(["ldap"], has_last=True), Level.WARN),
        (doctor.user_ids([], has_last=False), Level.FAIL),
        (doctor.prepared("job:init", "/var/cache/x", []), Level.OK),
        (doctor.prepared("job:init", "", []), Level.WARN),
        (doctor.prepared("job:init", "/var/cache/x", ["it is a link"]), Level.WARN),
        (doctor.limits({}, 1), Level.OK),
        (doctor.limits({"memory": "/sys/fs/cgroup is read-only here"}, 2), Level.WARN),
        (doctor.seccomp(has_library=True), Level.OK),
        (doctor.seccomp(has_library=False), Level.WARN),
    ],
)
def test_fact_is_judged(found: Finding, level: Level) -> None:
    assert found.level is level


def test_stale_namespace_s_mend_names_it() -> None:
    assert doctor.namespaces(["redis-cache"]).mend == "ip netns delete redis-cache"


# -- facts ---------------------------------------------------------------------------------


def test_tool_that_is_not_there_has_no_path() -> None:
    assert tool("no-such-program", "/usr/bin:/bin") == Tool("no-such-program", None, "")


def test_tool_tells_its_version() -> None:
    found = tool("bwrap", "/usr/sbin:/usr/bin:/sbin:/bin")
    assert found.path is None or found.version.startswith("bubblewrap ")


def test_disk_is_looked_at_where_the_path_will_be(tmp_path: Path) -> None:
    assert disk_free(tmp_path / "not" / "yet") > 0


# -- the command ---------------------------------------------------------------------------


def examine(tmp_path: Path, text: str | None) -> tuple[int, list[dict[str, str]]]:
    """The doctor about a host that does not exist yet, so that nothing of this one matters."""
    path = tmp_path / "stack.yaml"
    if text is not None:
        path.write_text(text)
    words = ["doctor", "--json", "--stack", str(path), "--host-netns", "no-such-host"]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["findings"]


STACK = """\
name: tiny
networks: {br-tiny: {address: 10.9.0.1/24}}
services: {web: {networks: {br-tiny: 10.9.0.10}, command: [COMMAND]}}
"""


def test_doctor_tries_the_kernel_for_real(tmp_path: Path) -> None:
    _, findings = examine(tmp_path, STACK.replace("COMMAND", "sh"))
    tried = {each["check"] for each in findings if each["check"].startswith("kernel: ")}
    works = {each["check"] for each in findings if each["found"] == "works"}
    assert "kernel: network namespace" in tried
    assert (
        "kernel: network namespace" not in works
        or {f"kernel: {name}" for name in ("bridge", "veth pair", "named namespace", *RULES)}
        <= tried
    )


def test_doctor_fails_for_a_program_that_is_missing(tmp_path: Path) -> None:
    code, findings = examine(tmp_path, STACK.replace("COMMAND", "no-such-program"))
    (row,) = (each for each in findings if each["check"] == "tool: no-such-program")
    assert (code, row["level"], row["mend"]) == (3, "fail", "install no-such-program")


def test_doctor_works_without_a_valid_stack(tmp_path: Path) -> None:
    code, findings = examine(tmp_path, "nonsense")
    (row,) = (each for each in findings if each["check"] == "stack file")
    assert (code, row["level"]) == (2, "fail")
    assert "must be a mapping" in row["found"]


def test_doctor_without_a_stack_file_ends_as_every_command_does(tmp_path: Path) -> None:
    code, findings = examine(tmp_path, None)
    (row,) = (each for each in findings if each["check"] == "stack file")
    assert (code, row["level"]) == (2, "fail")
    assert "No such file" in row["found"]
