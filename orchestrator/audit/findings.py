"""What an audit finds: one judgement about one subject, and the evidence; no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class Verdict(StrEnum):
    """As claimed; not, or nobody could tell; this host or stack has nothing to judge."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


class Finding(Struct, frozen=True):
    """One thing looked at. `check` is a key of CHECKS."""

    check: str
    subject: str
    verdict: Verdict
    evidence: str


CHECKS = {
    "1.1": "secrets are root's alone",
    "1.2": "data directories are their service's alone",
    "2.1": "each service is a user of its own",
    "2.2": "no capabilities, and none to be had",
    "2.3": "no_new_privs is set",
    "2.4": "system calls are filtered",
    "2.5": "namespaces of their own",
    "2.6": "all that is mounted is read-only, but its own data and private directories",
    "2.7": "nothing of the host or of other services can be seen",
    "2.8": "it has its own secrets alone, readable by it alone",
    "2.9": "no secret in environment or command line",
    "2.10": "no file of others is open",
    "2.11": "memory and tasks are limited",
    "2.12": "listening sockets are its own, on declared ports",
    "3.1": "PostgreSQL: roles may what is declared, and no more",
    "3.2": "PostgreSQL: everybody proves a password",
    "3.3": "Redis: users may what is declared, and no more",
}


def judged(check: str, subject: str, wrong: Iterable[str], evidence: str) -> Finding:
    """Fails with what is wrong; passes with the evidence if there is nothing."""
    faults = list(dict.fromkeys(wrong))
    if faults:
        return Finding(check, subject, Verdict.FAIL, "; ".join(faults))
    return Finding(check, subject, Verdict.PASS, evidence)


def unknown(check: str, subject: str, why: object) -> Finding:
    """Fails: what could not be looked at is not shown to be as claimed."""
    return Finding(check, subject, Verdict.FAIL, f"not known: {why}")


def skipped(check: str, subject: str, why: str) -> Finding:
    return Finding(check, subject, Verdict.SKIP, why)
