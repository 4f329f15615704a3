"""What was rendered before is taken while all that it was made from is the same, and no longer."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ResourceError
from orchestrator.processes.secrets import Secrets
from orchestrator.remembered import Remembered
from orchestrator.spec import Stack
from orchestrator.stackfile import parse_stack
from orchestrator.templates import Templates

Secret = Callable[[str], str]
Exists = Callable[[str], bool]

STACK = """\
name: tiny
networks: {br-t: {address: 10.9.0.1/24}}
secrets: [pw]
services:
  one:
    networks: {br-t: {address: 10.9.0.10}}
    command: [sleep, "9"]
    environment: {COLOUR: red}
    files:
      /run/a.conf: {template: a.conf}
"""
TEMPLATE = "{{ secret('pw') }} {{ environment.COLOUR }} {{ exists('/x') }} {{ services | length }}"


class Bench:
    """A lab whose templates are rendered by one command after the other."""

    def __init__(self, place: Path) -> None:
        self.place, self.secrets = place, Secrets(place / "secrets", place / "copies")
        self.secrets.ensure(["pw"], is_new=True)
        self.stack: Stack = parse_stack(STACK, "tiny.yaml")
        self.basis, self.there = "basis", True
        (place / "a.conf").write_text(TEMPLATE)

    @property
    def file(self) -> Path:
        return self.place / "rendered.json"

    def templates(self, remembered: Remembered) -> Templates:
        return Templates(
            self.stack,
            self.stack,
            self.place,
            self.secrets,
            exists=lambda _: self.there,
            remembered=remembered,
        )

    def command(self, **settings: str) -> str:
        remembered = Remembered(self.file, self.basis)
        templates = self.templates(remembered)
        service = self.stack.services["one"]
        given = {**service.environment, **settings}
        found = templates.render("one", service.files, given)
        described = templates.describe("one", service.files, given, ["pw"])
        assert described["/run/a.conf"].startswith("pw ")
        assert templates.asked("one", service.files, given) == {"pw"}
        assert templates.readable("one", service.files, given) == {"pw"}
        remembered.keep()
        return found["/run/a.conf"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def forbid_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise AssertionError

    monkeypatch.setattr("orchestrator.rendering.render", refuse)


def test_next_command_renders_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    password = bench.secrets.get("pw")
    assert bench.command() == f"{password} red True 1"
    kept = bench.file.read_bytes()
    remembered = Remembered(bench.file, bench.basis)
    templates = bench.templates(remembered)
    forbid_rendering(monkeypatch)
    service = bench.stack.services["one"]
    found = templates.render("one", service.files, service.environment)
    assert found == {"/run/a.conf": f"{password} red True 1"}
    remembered.keep()
    assert bench.file.read_bytes() == kept


def test_file_is_for_root_alone(bench: Bench) -> None:
    bench.command()
    assert stat.S_IMODE(bench.file.stat().st_mode) == 0o600
    made = {"a.conf", "secrets", "copies", "rendered.json"}
    assert {path.name for path in bench.place.iterdir()} == made


def test_each_thing_that_it_was_made_from_counts(bench: Bench) -> None:
    password = bench.secrets.get("pw")
    bench.command()
    assert bench.command(COLOUR="blue") == f"{password} blue True 1"
    bench.there = False
    assert bench.command() == f"{password} red False 1"
    (bench.place / "secrets/pw").write_text("other")
    assert bench.command() == "other red False 1"
    (bench.place / "a.conf").write_text("new {{ secret('pw') }}")
    with pytest.raises(AssertionError):  # it begins with another word
        bench.command()
    (bench.place / "a.conf").write_text("{{ secret('pw') }} {{ stack }}")
    assert bench.command() == "other tiny"


def test_of_another_stack_or_program_nothing_is_left(bench: Bench) -> None:
    bench.command()
    first = bench.file.read_text()
    bench.basis = "another"
    bench.command()
    assert bench.file.read_text() == first.replace('"basis":"basis"', '"basis":"another"')
    bench.stack = parse_stack(STACK.replace("  one:", "  two:"), "tiny.yaml")
    bench.basis = "third"
    remembered = Remembered(bench.file, bench.basis)
    remembered.texts("two", [], secret=str, exists=bool, render=lambda *_: {"/a": "b"})
    remembered.keep()
    assert '"one"' not in bench.file.read_text()


DEEP = '{"x":' + "[" * 100_000


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"basis":"basis","entries":{"one":{}}}', "\0", DEEP]
)
def test_damaged_file_counts_as_none(bench: Bench, damage: str) -> None:
    bench.file.write_text(damage)
    assert bench.command() == f"{bench.secrets.get('pw')} red True 1"


def test_secret_that_is_gone_is_no_reason_to_take_what_was_made_with_it(bench: Bench) -> None:
    remembered = Remembered(bench.file, bench.basis)

    def render(secret: Secret, _: Exists) -> dict[str, str]:
        return {"/a": secret("pw")}

    def gone(name: str) -> str:
        raise ResourceError(f"secret:{name}", "read", "it is gone")

    remembered.texts("one", [], secret=str, exists=bool, render=render)
    with pytest.raises(ResourceError):
        remembered.texts("one", [], secret=gone, exists=bool, render=render)


def test_what_is_forgotten_is_neither_in_the_file_nor_in_mind(bench: Bench) -> None:
    bench.command()
    remembered = Remembered(bench.file, bench.basis)

    def rendered(text: str) -> dict[str, str]:
        return remembered.texts("x", [], secret=str, exists=bool, render=lambda *_: {"/a": text})

    assert rendered("old") == rendered("new") == {"/a": "old"}
    half = bench.file.with_name(".rendered.json.new")  # of one that was killed
    half.write_text("old")
    remembered.forget()
    assert not bench.file.exists()
    assert not half.exists()
    remembered.keep()
    assert not bench.file.exists()
    assert rendered("new") == {"/a": "new"}
