"""Frequent commands without click: the same understanding, or none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import frequent
from orchestrator.cli import cli
from orchestrator.commands.running import MAX_WORKERS
from orchestrator.commandtable import PROGRAM
from orchestrator.errors import UsageError
from orchestrator.front import asking

VALUES = ["x", "gateway", "/tmp", "/nowhere/at/all", "..", "", "-", "a b", "ä", "lab", "veth:a/b"]
OPTIONS = [*frequent.OPTIONS, *frequent.SHORT, "--private"]
FLAGS = sorted({flag for flags in frequent.FLAGS.values() for flag in flags})
OTHERS = ["--debug", "--help", "-h", "--", "--js", "--stack=x", "-sx", "--host-netns="]
OTHERS += ["--max-workers", "--max-workers=3", "3"]
HEAVY = {"click", "typing", "pathlib", "json", "re", "enum", "socket", "hashlib", "dataclasses"}


def by_click(words: list[str]) -> dict[str, object] | None:
    """The parameters as click understands them; None if it does not, or does something else."""
    with click.Context(cli, info_name=PROGRAM) as ctx:
        command = cli.get_command(ctx, words[0])
    assert command is not None
    try:
        return dict(command.make_context(words[0], words[1:]).params)
    except (click.ClickException, click.exceptions.Exit, UsageError):
        return None


def without_click(words: list[str]) -> dict[str, object] | None:
    if (found := frequent.understood(words)) is None:
        return None
    own, target = found
    paths = {key: Path(value) for key, value in target.items() if key.endswith("_dir")}
    stack = Path(target["stack"]) if target["stack"] else None
    return {**own, **paths, "stack": stack, "host": target["host_netns"]}


@given(
    st.sampled_from(sorted(frequent.FLAGS)),
    st.lists(st.sampled_from([*VALUES, *OPTIONS, *OPTIONS, *FLAGS, *FLAGS, *OTHERS]), max_size=6),
    st.dictionaries(
        st.sampled_from([env for _, _, env in frequent.OPTIONS.values()]),
        st.sampled_from(VALUES),
        max_size=2,
    ),
)
def test_what_is_understood_is_what_click_understands(
    name: str, words: list[str], environment: dict[str, str]
) -> None:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        found, expected = without_click([name, *words]), by_click([name, *words])
    finally:
        os.environ.clear()
        os.environ.update(before)
    if found is None:
        return
    assert expected is not None
    host = expected.pop("host_netns") or ("lab" if expected.pop("private") else "")
    expected.pop("private", None)
    assert expected.pop("max_workers", MAX_WORKERS) == MAX_WORKERS
    assert found == {**expected, "host": host}


@pytest.mark.parametrize(
    "line",
    [
        "up",
        "up --no-supervise --host-netns a --state-dir /s --run-dir /r --cache-dir /c -s s.yaml",
        "up --live --thaw --json --private",
        "down",
        "down --volumes --json --host-netns a",
        "status",
        "status --json --host-netns a --state-dir /s --run-dir /r --stack s.yaml",
        "status --all --private -s s.yaml --cache-dir /c",
        "replay",
        "replay gateway",
        "replay --host-netns a --no-deps --cascade veth:web",
        "replay service:web --dry-run --json",
    ],
)
def test_common_lines_are_understood(line: str) -> None:
    assert frequent.understood(line.split()) is not None


def test_what_cannot_be_read_is_click_s(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert frequent.understood(["status", "--stack", str(loop)]) is not None  # not there
    assert frequent.understood(["status", "--stack"]) is None


def test_help_is_click_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with click.Context(cli, info_name=PROGRAM, help_option_names=["-h", "--help"]) as ctx:
        assert frequent.usage() == cli.get_help(ctx) + "\n"
    assert frequent.command(["--help"]) is not None
    monkeypatch.setenv("COLUMNS", "60")
    assert frequent.command(["--help"]) is None


def test_little_is_loaded_before_the_supervisor_is_asked() -> None:
    code = (
        "import sys; before = {*sys.modules}; import orchestrator.frequent; "
        "print(*({*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True,
        cwd=Path(frequent.__file__).parents[1], check=True)  # fmt: skip
    assert "orchestrator.frequent" in done.stdout.split()
    assert not HEAVY & {*done.stdout.split()}


def serving(place: Path, answers: list[bytes], heard: list[bytes]) -> threading.Thread:
    """One connection to the control socket: after each thing that is heard the next answer."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "control.sock"))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            for answer in answers:
                heard.append(connection.recv(65536))
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


WISHES = {"dry_run": False, "no_deps": True, "cascade": False}


def test_wishes_are_told_once_it_listens(tmp_path: Path) -> None:
    heard: list[bytes] = []
    chunks = b'6\r\n{"a":1\r\n3\r\n}\nb\r\n2\r\nc\n\r\n0\r\n\r\n'
    ready, answer = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n" + chunks
    thread = serving(tmp_path, [ready, answer], heard)
    asked = asking.replay(str(tmp_path), "d1", 'a"b', **WISHES)
    assert asked is not None
    lines = asked.posted()
    assert lines is not None
    assert list(lines) == ['{"a":1}', "bc"]
    thread.join()
    asking.let_interrupts_come()
    assert b"POST /replay?stack=d1 " in heard[0]
    assert heard[1] == b'{"what": "a\\"b", "cascade": false, "deps": false, "dry_run": false}'


@pytest.mark.parametrize("answer", [b"HTTP/1.1 409 Conflict\r\n\r\n", b""])
def test_refused_it_is_told_nothing(tmp_path: Path, answer: bytes) -> None:
    thread = serving(tmp_path, [answer], [])
    assert asking.replay(str(tmp_path), "d1", "a", **WISHES) is None
    thread.join()


def test_nobody_to_ask(tmp_path: Path) -> None:
    assert asking.status(str(tmp_path), "d1") is None
    assert asking.replay(str(tmp_path / "none"), "d1", "a", **WISHES) is None
