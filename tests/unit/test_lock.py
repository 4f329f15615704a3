"""The lock files hold everything that pyproject.toml asks for, in a version that it allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = PROJECT["dependencies"]
DEV = [*RUN, *PROJECT["optional-dependencies"]["dev"]]


def canonical(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lock: str) -> dict[str, str]:
    """Versions by name, of the lines that pip takes with --require-hashes."""
    found = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)", (ROOT / lock).read_text(), re.M)
    return {canonical(name): version for name, version in found}


@pytest.mark.parametrize(
    ("lock", "wanted"), [("requirements.lock", RUN), ("requirements-dev.lock", DEV)]
)
def test_lock_holds_what_the_project_asks_for(lock: str, wanted: list[str]) -> None:
    versions = pinned(lock)
    asked = [Requirement(line) for line in wanted]
    bad = [
        str(each)
        for each in asked
        if not each.specifier.contains(versions.get(canonical(each.name), "0"))
    ]
    assert bad == []


def test_both_locks_agree() -> None:
    run, dev = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert {name: dev.get(name) for name in run} == run
