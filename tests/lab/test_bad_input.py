"""Bad input of every kind, by real command lines and requests: each gives its clear error and
exit code 2 (or 4xx), and nothing is changed.

Mistakes in a stack file that the schema knows are in tests/unit/test_validate.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from names import next_name
from raw import ask, connect
from rig import GROUPS, Done, World, run
from warm import Warm

GOOD = """\
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
secrets: [pw]
services:
  web: {networks: {br-app: 10.0.0.10}, command: [sleep, "1000"], secrets: [pw]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host with nothing of ours on it."""
    directory = tmp_path_factory.mktemp("bad")
    directory.chmod(0o755)
    stack = directory / "stack.yaml"
    built = World.build(next_name(), directory)
    world = World(built.host, built.outside, built.state, built.run_dir, stack)
    try:
        yield world
    finally:
        world.remove()


def write(world: World, text: str | bytes) -> Path:
    path = world.stack
    path.unlink(missing_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def files(*roots: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below: kind and mode, owner, content or the link's target."""
    found = {}
    for root in roots:
        for path in [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]:
            if path.is_symlink() or path.exists():
                seen = path.lstat()
                whole = path.is_file() and not path.is_symlink()
                target = bytes(path.readlink()) if path.is_symlink() else b""
                content = path.read_bytes() if whole else target
                found[str(path)] = (seen.st_mode, seen.st_uid, content)
    return found


# -- command lines ----------------------------------------------------------------------------

SHELL_TRICKS = ("$(touch /pwned)", "a; touch /pwned", "a\nb", "`id`", "a|b", "\x1b[31m", "-rf")
PATH_TRICKS = ("../../etc/passwd", "/etc/passwd", "..", "a/b")


@dataclass(frozen=True)
class Words:
    """A command line on a good stack file, and what it is told."""

    words: tuple[str, ...]
    says: str
    host: str = ""
    env: dict[str, str] = field(default_factory=dict)


WORDS: dict[str, Words] = {
    "unknown command": Words(("frob",), "No such command 'frob'"),
    "unknown option": Words(("up", "--frob"), "No such option"),
    "option without its value": Words(("up", "--max-workers"), "requires an argument"),
    "no worker": Words(("up", "--max-workers", "0"), "1<=x<=1024"),
    "workers in words": Words(("up", "--max-workers", "many"), "not a valid integer"),
    "endless number of workers": Words(("up", "--max-workers", "9" * 5000), "--max-workers"),
    "negative tail": Words(("logs", "-n", "-1"), "x>=0"),
    "two things at once": Words(("up", "--live", "--no-supervise"), "not with --no-supervise"),
    "too many words": Words(("status", "web", "extra"), "unexpected extra argument"),
    **{f"logs of {trick!r}": Words(("logs", "--", trick), "unknown node") for trick in PATH_TRICKS},
    **{f"replay of {trick!r}": Words(("replay", "--", trick), "there is no layer or node")
       for trick in SHELL_TRICKS},
    **{f"why {trick!r}": Words(("why", "--", trick), "unknown node") for trick in PATH_TRICKS},
    "exec in an unknown service": Words(("exec", "../../etc", "true"), "unknown service"),
    "shell in an unknown service": Words(("shell", "a;b"), "unknown service"),
    "trace of no id": Words(("trace", "x;y"), "is no trace id"),
    "analysis of an unknown run": Words(("analyze", "blame", "--run", "../x"), "no journal"),
    "comparison of unknown runs": Words(("analyze", "diff", "../a", "b"), "no journal"),
    **{f"host {name!r}": Words(("up",), "is no name for a network namespace", host=name)
       for name in (*PATH_TRICKS, *SHELL_TRICKS, "x" * 300, "é", "a b")},
    "host by environment": Words(
        ("status",), "is no name for a network", env={"ORCHESTRATOR_HOST_NETNS": "../x"}, host="-"
    ),
    "host of an empty variable": Words(("status", "--host-netns", ""), "needs a name"),
    "state directory that cannot be": Words(
        ("up", "--state-dir", "/proc/x"), "cannot make /proc/x/"
    ),
    "run directory that cannot be": Words(("up", "--run-dir", "/proc/x"), "cannot make /proc/x"),
    **{f"cache directory {path}": Words(("prepare", "--cache-dir", path), f"{says} {path}")
       for path, says in (("/dev/null", "cannot use"), ("/etc/passwd/x", "cannot use"),
                          ("/proc/x", "cannot make"))},
    "stack of an empty variable": Words(("validate", ""), "an empty name"),
    "state directory of an empty variable": Words(("down", "--state-dir", ""), "an empty name"),
    "stack by environment": Words(
        ("validate",), "cannot read the stack file", env={"ORCHESTRATOR_STACK": "/nope"}, host="-"
    ),
    "endless state directory": Words(
        ("status",),
        "File name too long",
        env={"ORCHESTRATOR_STATE_DIR": "x" * 5000, "ORCHESTRATOR_RUN_DIR": "/nowhere"},
        host="-",
    ),
}  # fmt: skip


def command(world: World, warm: Warm, case: Words) -> Done:
    if case.host == "-":  # nothing but the environment says which lab
        return run(sys.executable, "-m", "orchestrator", *case.words, env=case.env)
    length = 2 if case.words[0] in GROUPS else 1
    words, rest = world.words(*case.words[:length]), case.words[length:]
    if case.host:
        words[words.index(world.host)] = case.host
    if "--live" in rest:
        rest = ("--live",)  # the other one is there already
    return warm.run([*words, *rest])[0]


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.close()


@pytest.fixture(scope="module", autouse=True)
def untouched(place: World) -> Iterator[None]:
    """The host is as it was when all of this is over."""
    before = place.fingerprint()
    yield
    assert place.fingerprint() == before
    assert not Path("/pwned").exists()


def assert_refused(done: Done, says: str) -> None:
    assert done.code == 2, done.text
    assert says in done.err
    assert "Traceback" not in done.text
    assert "this is a bug" not in done.text
    assert all(line.isprintable() for line in done.text.split("\n"))


@pytest.mark.parametrize("name", WORDS)
def test_bad_words_are_refused_and_change_nothing(place: World, warm: Warm, name: str) -> None:
    write(place, GOOD)
    before = files(place.state, place.run_dir)
    assert_refused(command(place, warm, WORDS[name]), WORDS[name].says)
    assert files(place.state, place.run_dir) == before


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("true",), 0, ""),
        (("--", "sh", "-c", "exit 7"), 7, ""),
        (("no-such-command",), 127, "cannot run no-such-command: no such command"),
        (("--", "/nope/a\x1b"), 127, "cannot run /nope/a�: no such command"),
        (("/etc/passwd",), 126, "cannot run /etc/passwd: not executable"),
        (("/etc",), 126, "cannot run /etc: not executable"),
        (("--",), 2, "Missing argument"),
    ],
)
def test_exec_ends_as_its_command_or_says_why_there_is_none(
    place: World, words: tuple[str, ...], code: int, says: str
) -> None:
    write(place, GOOD)
    namespace = f"{place.host}.web"
    run("ip", "netns", "add", namespace).ok()
    try:
        done = place.orchestrator("exec", "web", *words)
    finally:
        run("ip", "netns", "delete", namespace).ok()
    assert done.code == code, done.text
    assert says in done.err
    assert bool(says) == bool(done.err)


# -- stack files ------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(20)
)
STACKS: dict[str, tuple[str | bytes, str]] = {
    "10 MB": (GOOD + "#" + "x" * 10_000_000, "larger than 1,000,000 bytes"),
    "billion laughs": (BOMB, "YAML aliases are not allowed"),
    "deep nesting in one line": ("{a: " * 5000 + "}" * 5000, "nested too deeply"),
    "deep nesting by lines": ("".join(" " * n + "a:\n" for n in range(900)), "nested too deeply"),
    "merge key": (GOOD + "<<: {name: x}\n", "a key must be plain text"),
    "mapping as key": ("? {a: b}\n: c\n", "a key must be plain text"),
    "list as key": ("? [a, b]\n: c\n", "a key must be plain text"),
    "code by tag": ("name: !!python/object/apply:os.system [id]\n", "name: "),
    "two documents": (GOOD + "---\n" + GOOD, "another document"),
    "UTF-16": (GOOD.encode("utf-16"), "cannot read the stack file"),
    "number of 5000 digits": (GOOD.replace('"1000"', "9" * 5000), "4300 digits"),
    "name with a path": (GOOD.replace("tiny", "../x"), "name: "),
    "name with a line end": (GOOD.replace("tiny", '"a\\nb"'), "name: "),
    "name with an escape": (GOOD.replace("tiny", '"\\e[0m"'), "name: "),
    "service with a line end": (GOOD.replace("  web:", '  "a\\nb":'), "services.a�b"),
    "bridge with a semicolon": (GOOD.replace("br-app", '"b;x"'), "networks.b;x"),
    "bridge named ..": (GOOD.replace("br-app", '".."'), "networks."),
    "zero byte in a command": (GOOD.replace("sleep", '"a\\0b"'), "zero byte"),
    "template elsewhere": (GOOD.replace("secrets: [pw]}", "files: {/a: {template: /etc/shadow}}}"),
        "below the stack file's directory"),
    "secret with a path": (GOOD.replace("[pw]", "[../pw]"), "secrets.0"),
    "template that runs on": (GOOD.replace("secrets: [pw]}", "files: {/a: {content: "
        "'{% for i in range(10**9) %}x{% endfor %}'}}}"), "Range too big"),
    "template of loops in loops": (GOOD.replace("secrets: [pw]}", "files: {/a: {content: '"
        + "{% for i in range(9**5) %}" * 3 + "{% endfor %}" * 3 + "'}}}"), "processor time"),
    "template that looks around": (GOOD.replace("secrets: [pw]}", "files: {/a: {content: "
        "'{{ stack.__class__ }}'}}}"), "is unsafe"),
    "template that divides by zero": (GOOD.replace("secrets: [pw]}", "files: {/a: {content: "
        "'{{ 1 // 0 }}'}}}"), "cannot be rendered"),
    "template that includes": (GOOD.replace("secrets: [pw]}", "files: {/a: {content: "
        "'{% include \"/etc/passwd\" %}'}}}"), "cannot be rendered"),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_bad_stack_file_is_refused_and_changes_nothing(place: World, warm: Warm, name: str) -> None:
    text, says = STACKS[name]
    write(place, text)
    before = files(place.state, place.run_dir)
    assert_refused(*warm.run(place.words("up")), says)
    assert files(place.state, place.run_dir) == before


# -- what lies where files should be ----------------------------------------------------------

LAB = "{lab}"  # the lab's own name
# what is made, of which kind, in which of: the stack file's place, the state, the run directory
SPECIAL: dict[str, tuple[str, str, str]] = {
    "stack file is a pipe": ("stack", "", "pipe"),
    "stack file is a directory": ("stack", "", "directory"),
    "stack file is a link to a device": ("stack", "", "/dev/zero"),
    "stack file is a link to itself": ("stack", "", "itself"),
    "state is a file": ("state", "", "file"),
    "state is a link to nowhere": ("state", "", "/nonexistent/x"),
    "run directory is a file": ("run_dir", "", "file"),
    "lab's state is a file": ("state", LAB, "file"),
    "lab's run directory is a pipe": ("run_dir", LAB, "pipe"),
    "journal is a directory": ("state", f"{LAB}/journal.jsonl", "directory"),
    "journal is a pipe": ("state", f"{LAB}/journal.jsonl", "pipe"),
    "journal is a link to a device": ("state", f"{LAB}/journal.jsonl", "/dev/zero"),
    "journal is a link to itself": ("state", f"{LAB}/journal.jsonl", "itself"),
    "journal is a link to a file": ("state", f"{LAB}/journal.jsonl", "/etc/hosts"),
    "logs are a file": ("state", f"{LAB}/logs", "file"),
    "log is a pipe": ("state", f"{LAB}/logs/web.log", "pipe"),
    "log is a link to a file": ("state", f"{LAB}/logs/web.log", "/etc/hosts"),
    "log is a directory": ("state", f"{LAB}/logs/web.log", "directory"),
    "secrets are a file": ("state", f"{LAB}/secrets", "file"),
    "secret is a pipe": ("state", f"{LAB}/secrets/pw", "pipe"),
    "secret is a link to a file": ("state", f"{LAB}/secrets/pw", "/etc/hosts"),
    "lock is a directory": ("run_dir", ".{lab}.lock", "directory"),
    "lock is a pipe": ("run_dir", ".{lab}.lock", "pipe"),
    "lock is a link to a file": ("run_dir", ".{lab}.lock", "/etc/hosts"),
}


def make(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "file":
            path.write_text("x")
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "itself":
            path.symlink_to(path.name)
        case target:
            path.symlink_to(target)


@pytest.mark.parametrize("name", SPECIAL)
def test_special_file_is_refused_and_nothing_is_changed(
    place: World, warm: Warm, name: str, tmp_path: Path
) -> None:
    where, below, kind = SPECIAL[name]
    here = World(place.host, place.outside, tmp_path / "state", tmp_path / "run",
                 tmp_path / "stack.yaml")  # fmt: skip
    if where != "stack":
        write(here, GOOD)
    root = getattr(here, where)
    make(root / below.format(lab=f"tiny@{place.host}") if below else root, kind)
    victim, before = Path("/etc/hosts").stat(), files(tmp_path)
    for done in warm.run(*(here.words(each) for each in ("up", "down", "status"))):
        assert_refused(done, "cannot ")
    assert files(tmp_path) == before
    assert Path("/etc/hosts").stat() == victim


# -- requests ---------------------------------------------------------------------------------

DEEP = "[" * 20_000
BODIES: dict[str, tuple[bytes, set[int]]] = {
    "nothing": (b"", {400, 415}),
    "no JSON": (b"{", {400}),
    "random bytes": (bytes(range(256)), {400}),
    "zero bytes": (b"\0" * 100, {400}),
    "no UTF-8": (b'{"customer_id": "\xff\xfe"}', {400}),
    "deep lists": (DEEP.encode(), {400}),
    "deep in a member": (f'{{"customer_id": {DEEP}'.encode(), {400}),
    "a list": (b"[]", {422}),
    "a number": (b"7", {422}),
    "null": (b"null", {422}),
    "no number": (b'{"customer_id": "a", "product_id": NaN, "quantity": 1}', {400, 422}),
    "endless": (b'{"customer_id": "a", "product_id": 1e999, "quantity": 1}', {400, 422}),
    "half a surrogate": (
        b'{"customer_id": "\\ud800", "product_id": 4, "quantity": 1}', {400, 422}
    ),
    "customer of 5000 digits": (
        b'{"customer_id": ' + b"9" * 5000 + b', "product_id": 4, "quantity": 1}', {400, 422}
    ),
    "customer with a zero byte": (
        json.dumps({"customer_id": "a\0b", "product_id": 4, "quantity": 1}).encode(), {422}
    ),
    "customer that is SQL": (
        json.dumps({"customer_id": "a'; DROP TABLE orders; --", "product_id": 4, "quantity": 1})
        .encode(), {422},
    ),
    "customer with a path": (
        json.dumps({"customer_id": "../../etc", "product_id": 4, "quantity": 1}).encode(), {422}
    ),
    "quantity below one": (b'{"customer_id": "a", "product_id": 4, "quantity": -1}', {422}),
    "quantity of a million": (b'{"customer_id": "a", "product_id": 4, "quantity": 1000000}', {422}),
    "product beyond all numbers": (
        b'{"customer_id": "a", "product_id": 99999999999999999999, "quantity": 1}', {422}
    ),
    "true for a number": (b'{"customer_id": "a", "product_id": true, "quantity": 1}', {422}),
    "unknown member": (
        b'{"customer_id": "a", "product_id": 4, "quantity": 1, "price": 0}', {422}
    ),
    "wrong price": (
        b'{"customer_id": "a", "product_id": 4, "quantity": 1, "total_price": 0.01}', {422}
    ),
    "price with more decimals than numbers have": (
        b'{"customer_id": "a", "product_id": 4, "quantity": 1, "total_price": "1e-20000"}', {422}
    ),
    "64 KB and more": (b'{"customer_id": "' + b"a" * 70_000 + b'"}', {413}),
}  # fmt: skip


def books(shop: World) -> list[str]:
    """What an order would change."""
    found = [shop.curl("http://localhost:8080/api/products", "-H", "Cache-Control: no-cache")]
    found.append(shop.curl("http://localhost:8080/api/orders?customer_id=a"))
    return [each.ok().out for each in found]


@pytest.mark.parametrize("name", BODIES)
def test_bad_body_is_a_problem_and_orders_nothing(shop: World, name: str) -> None:
    body, allowed = BODIES[name]
    before = books(shop)
    head = f"POST /api/orders HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n\r\n"
    with connect(shop, "", ("127.0.0.1", 8080)) as connection:
        answer = ask(connection, head.encode() + body)
    assert answer is not None
    assert answer.status in allowed, answer
    assert answer.problem()["detail"]
    assert books(shop) == before
