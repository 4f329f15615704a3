"""Judgements of the audit: one fact is made wrong, and that alone is found."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orchestrator.audit.findings import CHECKS, Verdict
from orchestrator.audit.judging import Claim, Host, of_service
from orchestrator.audit.looking import Entry, Mount, Process, Seen
from orchestrator.audit.servers import _role_faults, _user_faults
from orchestrator.spec import Account

STATUS = {
    "Uid": "61300\t61300\t61300\t61300",
    "Gid": "61300\t61300\t61300\t61300",
    "Groups": "",
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "NoNewPrivs": "1",
    "Seccomp": "2",
}
PROGRAM = Process(
    7, "svc", False, STATUS, b"PATH=/usr/bin\0", b"svc\0", ("/dev/null",), frozenset()
)
INIT = replace(PROGRAM, pid=6, name="bwrap", is_init=True, status={**STATUS, "CapBnd": "1ff"})
SPACES = {"pid": 11, "ipc": 12, "uts": 13, "mnt": 14, "cgroup": 15, "net": 16}
SEEN = Seen(
    (INIT, PROGRAM),
    SPACES,
    (Mount("/", "tmpfs", True), Mount("/data", "ext4", False), Mount("/tmp", "tmpfs", False)),
    (),
    (Entry("word", 0o400, 61300),),
    {"/tmp": 21},
)
LOGS = ("/state/log/svc",)
CLAIM = Claim(
    "svc", 61300, ("/data",), frozenset({"word"}), 16, frozenset({80}), ("/state/log/svc",)
)
HOST = Host({"pid": 1, "net": 2}, {"word": "hidden-text"}, ("/state/",), {"/tmp": 20}, True)


def failed(seen: Seen = SEEN, others: dict[str, Seen] | None = None, host: Host = HOST) -> set[str]:
    found = list(of_service(CLAIM, seen, others or {}, host))
    assert {each.check for each in found} <= CHECKS.keys()
    return {each.check for each in found if each.verdict is Verdict.FAIL}


def with_program(**changes: object) -> Seen:
    return replace(SEEN, processes=(INIT, replace(PROGRAM, **changes)))  # type: ignore[arg-type]


def with_status(**changes: str) -> Seen:
    return with_program(status={**STATUS, **changes})


@pytest.mark.parametrize(
    ("seen", "check"),
    [
        (with_status(Uid="61300 0 61300 61300"), "2.1"),
        (with_status(Groups="27"), "2.1"),
        (with_status(CapEff="0000000000000400"), "2.2"),
        (with_status(CapBnd="0000000000000400"), "2.2"),
        (with_status(NoNewPrivs="0"), "2.3"),
        (with_status(Seccomp="0"), "2.4"),
        (replace(SEEN, namespaces={**SPACES, "pid": 1}), "2.5"),
        (replace(SEEN, namespaces={**SPACES, "net": 2}), "2.5"),
        (replace(SEEN, mounts=(Mount("/usr", "ext4", False),)), "2.6"),
        (replace(SEEN, private={"/tmp": 20}), "2.6"),
        (replace(SEEN, visible=("/home",)), "2.7"),
        (replace(SEEN, secrets=()), "2.8"),
        (replace(SEEN, secrets=(Entry("word", 0o444, 61300),)), "2.8"),
        (replace(SEEN, secrets=(*SEEN.secrets, Entry("other", 0o400, 61300))), "2.8"),
        (with_program(environment=b"PASSWORD=hidden-text\0"), "2.9"),
        (with_program(command=b"svc\0--password=hidden-text\0"), "2.9"),
        (with_program(open_files=("/state/journal.jsonl",)), "2.10"),
    ],
)
def test_one_wrong_fact_fails_one_check(seen: Seen, check: str) -> None:
    assert failed() == set()
    assert failed(seen) == {check}


def test_secret_that_is_rotated_has_its_next_one_beside_it() -> None:
    both = (*SEEN.secrets, Entry("word.next", 0o400, 61300))
    assert failed(replace(SEEN, secrets=both)) == set()


def test_services_must_not_share() -> None:
    assert failed(others={"twin": SEEN}) == {"2.1", "2.5", "2.6"}


def test_filter_that_cannot_be_had_is_no_failure() -> None:
    assert failed(with_status(Seccomp="0"), host=replace(HOST, has_filter=False)) == set()


ROLE = {
    **dict.fromkeys(("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication"), False),
    "rolbypassrls": False,
    "owned": 0,
    "roles": ["pg_monitor"],
}
ACCOUNT = Account(secret="word", may=("SELECT on t (b, a)", "pg_monitor"))


@pytest.mark.parametrize(
    ("role", "held", "faults"),
    [
        (ROLE, ["SELECT on t (a, b)"], []),
        (ROLE, [], ["lacks SELECT on t (a, b)"]),
        (ROLE, ["SELECT on t (a, b)", "UPDATE on t"], ["has too much: UPDATE on t"]),
        ({**ROLE, "rolsuper": True}, ["SELECT on t (a, b)"], ["superuser"]),
        ({**ROLE, "owned": 2}, ["SELECT on t (a, b)"], ["owns 2 objects"]),
        (None, [], ["there is no such role"]),
    ],
)
def test_roles(role: dict[str, object] | None, held: list[str], faults: list[str]) -> None:
    assert list(_role_faults("svc", role, ACCOUNT, held)) == faults


RULES = ["on", "#aa", "~x:*", "resetchannels", "-@all", "+get"]


@pytest.mark.parametrize(
    ("words", "faults"),
    [
        (RULES, []),
        ([*RULES, "+set"], ["has too much: +set"]),
        ([*RULES, "nopass"], ["has too much: nopass"]),
        ([*RULES, "#bb"], ["it has 2 passwords"]),
        (RULES[:-1], ["lacks +get"]),
        (None, ["there is no such user"]),
    ],
)
def test_users_of_redis(words: list[str] | None, faults: list[str]) -> None:
    assert list(_user_faults(words, Account(secret="word", may=("~x:*", "+get")))) == faults
