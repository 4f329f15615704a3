"""Who may import whom: knowledge points down, and each foreign library has one owner."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "orchestrator"
FILES = sorted(ROOT.rglob("*.py"))

PURE = {"events", "errors", "needs", "lab", "logorder", "resource", "document"}
PURE |= {
    "exposition",
    "fields",
    "readiness",
    "schema",
    "spec",
    "formproblems",
    "stackfile",
    "presence",
    "terminal",
}
BANNED = {
    "engine": ("kernel", "processes", "sights", "stack", "app", "commands", "view"),
    "kernel": ("engine", "processes", "sights", "stack", "app", "commands", "view"),
    "processes": ("engine", "kernel", "sights", "stack", "app", "commands", "view"),
    "sights": ("engine", "kernel", "processes", "stack", "app", "commands", "view"),
    "path": ("engine", "kernel", "sights", "stack", "app", "commands", "view", "front"),
    "view": ("engine", "sights", "commands", "supervisor", "replay"),
    "audit": ("commands", "supervisor", "view", "front"),
    "diagnosis": ("commands", "supervisor", "view", "front"),
    **dict.fromkeys(PURE, ("engine", "kernel", "processes", "sights", "stack", "app", "view")),
}
OWNERS = {
    "pyroute2": ("hostfacts.py",),
    "tenacity": ("engine/retry.py",),
    "asyncpg": ("audit/servers.py",),
    "redis": ("audit/servers.py",),
    "aiohttp": ("front",),
    "pydantic": ("fields.py", "formproblems.py", "readiness.py", "schema.py", "stackfile.py"),
    "yaml": ("document.py",),
    "jinja2": ("rendering.py",),
    "prometheus_client": (),  # the services' own: see exposition
    "click": ("cli.py", "commands"),
}
# The kernel's view is an end: it knows the app, and only the supervisor's side shows it.
VIEW_USERS = {"front", "supervisor", "view"}
IO_MODULES = {"socket", "subprocess", "asyncio", "shutil", "os"}


def imports(path: Path) -> set[str]:
    """Dotted names that the file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def place(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    banned = [f"orchestrator.{name}" for name in BANNED.get(place(path), ())]
    assert not [
        name for name in imports(path) if any(name == b or name.startswith(b + ".") for b in banned)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_kernels_view_is_shown_by_the_supervisor_alone(path: Path) -> None:
    uses = [name for name in imports(path) if name.startswith("orchestrator.view")]
    assert not uses or place(path) in VIEW_USERS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_foreign_libraries_have_one_owner(path: Path) -> None:
    here = str(path.relative_to(ROOT))
    for name in {name.partition(".")[0] for name in imports(path)} & OWNERS.keys():
        assert here.startswith(OWNERS[name]), f"{here} imports {name}"


@pytest.mark.parametrize("name", sorted(PURE - {"lab", "document"}))
def test_pure_modules_do_no_io(name: str) -> None:
    assert not imports(ROOT / f"{name}.py") & IO_MODULES


# Looking and asking are apart from judging.
JUDGING = ("findings", "network", "transport", "site", "report")


@pytest.mark.parametrize("name", JUDGING)
def test_verdicts_do_no_io_and_know_no_one_who_does(name: str) -> None:
    found = imports(ROOT / "diagnosis" / f"{name}.py")
    assert not found & IO_MODULES
    looking = ("app", "linux", "diagnosis.looking", "diagnosis.asking", "diagnosis.examine")
    assert not found & {f"orchestrator.{each}" for each in looking}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_says_what_it_is_and_is_one_room(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)) or not text
    assert len(text.splitlines()) <= 400
