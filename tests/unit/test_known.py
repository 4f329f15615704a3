"""What is kept of reading a stack serves the same text on the same program, and nothing else."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import ROOT, SHOP

from orchestrator import known
from orchestrator.app import App, open_app
from orchestrator.errors import SpecError
from orchestrator.processes import prepared
from orchestrator.processes.prepared import Store
from orchestrator.stackfile import parse_stack
from orchestrator.validation import check_templates

TEXT = """\
name: small
networks: {br-app: {address: 10.0.0.1/16}}
services:
  core:
    networks: {br-app: 10.0.0.10}
    command: [sleep, "1"]
    files: {/run/core.conf: {template: core.conf}}
"""
TEMPLATE = "at {{ address('core') }}{% if exists(environment.get('FLAG', 'FILE')) %}{% endif %}\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A stack with a template that asks whether this host has `flag`."""
    (tmp_path / "stack.yaml").write_text(TEXT)
    (tmp_path / "core.conf").write_text(TEMPLATE.replace("FILE", str(tmp_path / "flag")))
    return tmp_path


def opened(place: Path) -> App:
    paths = {name: place / name for name in ("state_root", "run_root", "cache_root")}
    return open_app(place / "stack.yaml", host="", **paths)


def kept(place: Path) -> Path:
    app = opened(place)
    path = known.keep(app.text, check_templates(app, "stack.yaml"), app.lab.cache_root)
    assert path is not None
    return path


def rendered(app: App) -> str:
    service = app.stack.services["core"]
    files = app.compiler.templates.render("service:core", service.files, service.environment)
    return files["/run/core.conf"]


def test_same_stack_comes_back_with_its_templates(place: Path) -> None:
    assert not opened(place).is_sound()
    kept(place)
    app = opened(place)
    assert app.stack == parse_stack(TEXT, "stack.yaml")
    assert app.is_sound()
    assert app.known is not None
    assert len(app.known.compiled) == 1
    assert rendered(app) == "at 10.0.0.10\n"


def test_whole_shop_comes_back_as_it_was_read(tmp_path: Path) -> None:
    text = SHOP.read_text()
    stack = parse_stack(text, "stack.yaml")
    known.keep(text, known.Known(stack), tmp_path / "cache")
    found = known.look(text, tmp_path / "cache")
    assert found is not None
    assert found.stack == stack


def test_what_is_dear_to_load_is_not_loaded(place: Path) -> None:
    kept(place)
    code = """if True:
        import sys
        from pathlib import Path
        from orchestrator.app import open_app
        import orchestrator.commands.running
        place = Path(sys.argv[1])
        paths = {name: place / name for name in ("state_root", "run_root", "cache_root")}
        app = open_app(place / "stack.yaml", host="", **paths)
        assert app.is_sound() and app.nodes
        print({"click", "pydantic", "yaml", "jinja2"} & sys.modules.keys() or "none")
    """
    words = [sys.executable, "-c", code, str(place)]
    found = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "none\n"


def test_another_text_is_read_anew(place: Path) -> None:
    kept(place)
    (place / "stack.yaml").write_text(TEXT.replace("10.0.0.10", "10.0.0.11"))
    assert rendered(opened(place)) == "at 10.0.0.11\n"
    assert not opened(place).is_sound()
    (place / "stack.yaml").write_text(TEXT.replace("10.0.0.10", "10.9.0.11"))
    with pytest.raises(SpecError, match="outside the network"):
        opened(place)


def test_another_template_is_checked_and_rendered_anew(place: Path) -> None:
    kept(place)
    (place / "core.conf").write_text("now {{ address('core') }}\n")
    assert not opened(place).is_sound()
    assert rendered(opened(place)) == "now 10.0.0.10\n"


def test_another_host_is_looked_at_anew(place: Path) -> None:
    kept(place)
    (place / "flag").touch()
    assert not opened(place).is_sound()
    kept(place)
    assert opened(place).is_sound()
    (place / "flag").unlink()
    assert not opened(place).is_sound()


def test_services_that_can_run_now_are_checked_anew(place: Path) -> None:
    tool = place / "bin" / "tool"
    absent = TEXT + f"  extra: {{namespace: core, command: [tool], when: {{program: {tool}}}}}\n"
    (place / "stack.yaml").write_text(absent)
    kept(place)
    assert opened(place).is_sound()
    tool.parent.mkdir()
    tool.write_text("")
    tool.chmod(0o755)
    assert not opened(place).is_sound()


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(sys, "version", "3.99"),
        lambda patch: patch.setattr(known, "_modules", lambda: [("spec.py", 1, 1)]),
        lambda patch: patch.setattr(known, "_time", lambda path: (str(path), 1)),
    ],
    ids=["Python", "this program", "packages"],
)
def test_another_program_reads_anew(
    place: Path, change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(place)
    assert known.look(TEXT, place / "cache_root") is not None
    change(monkeypatch)
    assert known.look(TEXT, place / "cache_root") is None


def test_every_module_and_package_directory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(str(packages))
    before = known.key_of(TEXT)
    assert known.key_of(TEXT) == before
    os.utime(packages, (1, 1))
    assert known.key_of(TEXT) != before
    assert {"schema.py", "fields.py", "stackfile.py", "rendering.py"} <= {
        name for name, *_ in known._modules()
    }


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def in_an_open_directory(path: Path) -> None:
    path.parent.chmod(0o755)


@pytest.mark.parametrize("harm", [damaged, open_to_others, linked, in_an_open_directory])
def test_what_cannot_be_trusted_is_not_used(place: Path, harm: Callable[[Path], None]) -> None:
    path = kept(place)
    harm(path)
    assert known.look(TEXT, place / "cache_root") is None
    assert rendered(opened(place)) == "at 10.0.0.10\n"


class Harm:
    """Would leave a file behind wherever it is read without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_reading_makes_nothing_but_a_stack(place: Path) -> None:
    content = pickle.dumps(Harm(place / "harm"))
    path = kept(place)
    path.unlink()
    name = f"{known.key_of(TEXT)}.{hashlib.sha256(content).hexdigest()}"
    draft = os.open(path.parent / name, os.O_CREAT | os.O_WRONLY, prepared.FILE_MODE)
    os.write(draft, content)
    os.close(draft)
    found, refused = Store(path.parent).open(known.key_of(TEXT))
    assert (found is not None, refused) == (True, [])  # it is only what is in it
    os.close(found or 0)
    assert known.look(TEXT, place / "cache_root") is None
    assert not (place / "harm").exists()
