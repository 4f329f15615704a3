"""A stack file that is wrong is refused with file, line, path and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.cli import main

GOOD = """\
name: shop
networks:
  br-t: {address: 10.9.0.1/24}
secrets: [pw]
services:
  web:
    networks: {br-t: 10.9.0.10}
    command: [nginx]
    ports: ["8080:80"]
    needs: [db]
  db:
    networks: {br-t: 10.9.0.20}
    command: [redis-server]
    data: [/data]
jobs:
  init: {of: db, command: ["true"], creates: /data/done}
checks:
  front: {steps: [{url: "http://127.0.0.1:8080/"}]}
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process: exit code, standard output, standard error."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["orchestrator", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def stack(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "stack.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_valid_file_is_summed_up_in_one_line(run: Run, stack: Callable[..., Path]) -> None:
    path = stack(GOOD)
    code, out, err = run("validate", path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{path}: valid: 2 services, 1 network, 1 job, 1 check, ")
    assert out.count("\n") == 1


def test_file_can_be_given_as_option_too(run: Run, stack: Callable[..., Path]) -> None:
    assert run("validate", "--stack", stack(GOOD))[0] == 0


WHOLE_SERVICES = GOOD[GOOD.index("  web:") : GOOD.index("jobs:")]

# what is replaced in GOOD, by what, then the line, the path and a part of the message
# A table, one case after the other: spread out it would fill six pages.
# fmt: off
BAD = {
    "unknown top key": ("secrets:", "secret:", 4, "secret",
        "unknown key (did you mean secrets or services?); known here: checks, flows, jobs, name"),
    "unknown service key": ("ports:", "port:", 9, "services.web.port",
        "unknown key (did you mean ports?); known here: accounts, command"),
    "unknown network key": ("address: 10.9.0.1/24", "address: 10.9.0.1/24, mtu: 9000", 3,
        "networks.br-t.mtu", "unknown key; known here: address, masquerade"),
    "unknown key deep down": ('8080/"', '8080/", methd: GET', 18, "checks.front.steps.0.methd",
        "unknown key (did you mean method?); known here: body, expect"),
    "missing name": ("name: shop\n", "", 1, "name", "is missing"),
    "missing command of a job": ('command: ["true"], ', "", 16, "jobs.init.command", "is missing"),
    "command is no list": ("[nginx]", "nginx", 8, "services.web.command",
        "must be a list, e.g. [a, b] (found 'nginx')"),
    "empty command": ("[nginx]", "[]", 8, "services.web.command", "at least 1 item"),
    "command with a float": ("[nginx]", "[nginx, 1.5]", 8, "services.web.command.1",
        "must be text (found '1.5')"),
    "services is a list": (WHOLE_SERVICES, "  - web\n", 5, "services",
        "must be a mapping, e.g. {name: value} (found a list)"),
    "way out by a word of its own": ("data: [/data]", "data: [/data]\n    outbound: deny", 15,
        "services.db.outbound",
        "must be allowed, denied, or a list of ports, e.g. [443, 53/udp] (found 'deny')"),
    "way out at no port": ("data: [/data]", "data: [/data]\n    outbound: [x]", 15,
        "services.db.outbound.0", "'x' is no port; write 443 or 53/udp"),
    "needs by one word": ("[db]", "db", 10, "services.web.needs",
        "must be a list of names, e.g. [db], or a mapping, e.g. {db: ready} (found 'db')"),
    "port that is a number": ('["8080:80"]', "[8080]", 9, "services.web.ports.0",
        "must be the host's port and the service's, e.g. \"8080:80\" (found '8080')"),
    "readiness that is a number": ("data: [/data]", "data: [/data]\n    readiness: {http: 80}", 15,
        "services.db.readiness.http", "must be a mapping with port, path, status, contains"),
    "nothing for a list": ("data: [/data]", "data:", 14, "services.db.data",
        "must be a list, e.g. [a, b] (found nothing)"),
    "bad address": ("10.9.0.20", "10.9.0.300", 12, "services.db.networks.br-t.address", "IPv4"),
    "duplicate address": ("10.9.0.20", "10.9.0.10", 12, "services.db.networks.br-t",
        "10.9.0.10 is already the address of web"),
    "address of the bridge": ("10.9.0.20", "10.9.0.1", 12, "services.db.networks.br-t",
        "already the address of bridge br-t"),
    "address out of the subnet": ("10.9.0.20", "10.8.0.20", 12, "services.db.networks.br-t",
        "10.8.0.20 is outside the network's subnet 10.9.0.0/24"),
    "broadcast address": ("10.9.0.20", "10.9.0.255", 12, "services.db.networks.br-t",
        "10.9.0.255 is no host address"),
    "public subnet": ("10.9.0.1/24", "8.8.8.1/24", 3, "networks.br-t.address", "RFC 1918"),
    "subnet without room": ("10.9.0.1/24", "10.9.0.1/32", 3, "networks.br-t.address",
        "has no room"),
    "bridge name of 16": ("br-t: {address: 10.9.0.1/24}",
        "br-t: {address: 10.9.0.1/24}\n  br-0123456789012: {address: 10.8.0.1/24}", 4,
        "networks.br-0123456789012", "bridge name is 16 characters long, 15 are allowed"),
    "port's name of 16": ("{br-t: 10.9.0.20}",
        "{br-t: {address: 10.9.0.20, interface: veth-01234567}}", 12, "services.db.networks.br-t",
        "interface name veth-01234567 is 13 characters long"),
    "interface name twice": ("{br-t: 10.9.0.20}",
        "{br-t: {address: 10.9.0.20, interface: veth-web}}", 12, "services.db.networks.br-t",
        "interface name veth-web is already used by web"),
    "overlapping networks": ("br-t: {address: 10.9.0.1/24}",
        "br-t: {address: 10.9.0.1/24}\n  br-u: {address: 10.9.0.65/26}", 4, "networks.br-u.address",
        "overlaps with network br-t"),
    "unknown network": ("{br-t: 10.9.0.20}", "{br-x: 10.9.0.20}", 12, "services.db.networks.br-x",
        "unknown network; known: br-t"),
    "service without network": ("    networks: {br-t: 10.9.0.20}\n", "", 11, "services.db",
        "has no network"),
    "circle": ("data: [/data]", "data: [/data]\n    needs: [web]", 10, "services.web.needs",
        "needs form a circle: "),
    "circle of one": ("[db]", "[web]", 10, "services.web.needs", "circle: web → web"),
    "unknown need": ("[db]", "[dbx]", 10, "services.web.needs.dbx", "unknown need; known: web, db"),
    "wrong condition": ("[db]", "{db: completed}", 10, "services.web.needs.db",
        "a service can only be started, ready or beside"),
    "unknown condition": ("[db]", "{db: healthy}", 10, "services.web.needs.db", "'started'"),
    "job of nobody": ("of: db", "of: dbx", 16, "jobs.init.of", "unknown service dbx"),
    "prepared for nothing": ("creates: /data/done", "prepared: {command: [date]}", 16,
        "jobs.init.prepared", "creates something"),
    "creates outside of the data": ("/data/done", "/tmp/done", 16, "jobs.init.creates",
        "must lie in a data directory of db"),
    "job after its service": ("creates: /data/done", "rotation: lost", 16, "jobs.init.rotation",
        "is run before its service: db must need it"),
    "service for what is lost": ("data: [/data]", "rotation: lost", 14, "services.db.rotation",
        "lost is for jobs alone"),
    "job named as a service": ("  init:", "  web:", 16, "jobs.web", "a service has the same name"),
    "port clash": ("data: [/data]", 'data: [/data]\n    ports: ["8080:6379"]', 15,
        "services.db.ports.0", "host port 8080 is already published by web"),
    "port that is none": ("8080:80", "http:80", 9, "services.web.ports.0", "is no published port"),
    "port out of range": ("8080:80", "70000:80", 9, "services.web.ports.0.host", "65535"),
    "readiness without command": ("    command: [redis-server]\n", "    readiness: {tcp: 6379}\n",
        13, "services.db.readiness", "there is no command"),
    "unknown secret": ("data: [/data]", "data: [/data]\n    secrets: [px]", 15,
        "services.db.secrets.0", "unknown secret px"),
    "bad duration": ("data: [/data]", "data: [/data]\n    deadline: soon", 15,
        "services.db.deadline", "'soon' is no duration; write 500ms, 30s or 2m"),
    "negative duration": ("data: [/data]", "data: [/data]\n    deadline: -1", 15,
        "services.db.deadline", "greater than 0"),
    "text for a number": ("data: [/data]", "data: [/data]\n    retry: {attempts: many}", 15,
        "services.db.retry.attempts", "must be a whole number (found 'many')"),
    "relative data directory": ("[/data]", "[data]", 14, "services.db.data.0", "absolute path"),
    "directory whose name is too long": ("[/data]", f"[/{'é' * 128}]", 14, "services.db.data.0",
        "has a name of 256 bytes; 255 is the most"),
    "path that is too long": ("[/data]", f"[{'/ab' * 1365 + 'c'}]", 14, "services.db.data.0",
        "longer than the 4095 bytes of a path"),
    "two sources of a file": ("data: [/data]",
        "data: [/data]\n    files: {/etc/x: {template: a, content: b}}", 15,
        "services.db.files./etc/x", "either template or content"),
    "template out of the stack": ("data: [/data]",
        "data: [/data]\n    files: {/etc/x: {template: ../../etc/passwd}}", 15,
        "services.db.files./etc/x.template", "below the stack file's directory"),
    "template that is not there": ("data: [/data]",
        "data: [/data]\n    files:\n      /etc/x: {template: nope.j2}", 16,
        "services.db.files./etc/x", "template nope.j2: "),
    "content that cannot be rendered": ("data: [/data]",
        "data: [/data]\n    files: {/etc/x: {content: \"{{ address('dbx') }}\"}}", 15,
        "services.db.files", "unknown service dbx"),
    "content with an unknown secret": ("data: [/data]",
        "data: [/data]\n    files: {/etc/x: {content: \"{{ secret('px') }}\"}}", 15,
        "services.db.files", "unknown secret px"),
    "user that this host does not have": ("data: [/data]",
        "data: [/data]\n    user: no-such-user-here", 15, "services.db.user",
        "this host has no user no-such-user-here"),
    "bad service name": ("  db:", "  DB:", 11, "services.DB", "pattern"),
    "check of another protocol": ("http://127", "https://127", 18, "checks.front.steps.0.url",
        "pattern"),
    "check at no port": ("127.0.0.1:8080", "localhost:99999", 18, "checks.front.steps.0.url",
        "its port must be a number from 1 to 65535"),
    "check at port 0": ("127.0.0.1:8080", "localhost:0", 18, "checks.front.steps.0.url",
        "its port must be a number from 1 to 65535"),
    "check at a word for a port": ("127.0.0.1:8080", "localhost:abc", 18,
        "checks.front.steps.0.url", "its port must be a number from 1 to 65535"),
    "check at an empty label": ("127.0.0.1:8080", "a..b", 18, "checks.front.steps.0.url",
        "'a..b' is no host name (found 'http://a..b/')"),
    "check at a long label": ("127.0.0.1:8080", "a" * 64, 18, "checks.front.steps.0.url",
        "is no host name"),
    "check at no host": ("127.0.0.1:8080", "", 18, "checks.front.steps.0.url", "no host name"),
    "check at half an address": ("127.0.0.1:8080/", "[::1", 18, "checks.front.steps.0.url",
        "is no URL: Invalid IPv6 URL"),
    "check at no IPv6 address": ("127.0.0.1:8080", "[::g]", 18, "checks.front.steps.0.url",
        "is no URL: "),
    "check at no IPv4 address": ("127.0.0.1:8080", "127.0.0.300", 18, "checks.front.steps.0.url",
        "is no URL: "),
    "check at what is saved later": ("127.0.0.1:8080", "{host}", 18, "checks.front.steps.0.url",
        "'{host}' is no host name"),
    "check as a user": ("127.0.0.1:8080", "me@localhost", 18, "checks.front.steps.0.url",
        "give an Authorization header"),
    "URL with a control character": ("8080/", "8080/\\x01", 18, "checks.front.steps.0.url",
        "it holds what cannot be printed"),
    "header of two lines": ('8080/"', '8080/", headers: {X: "a\\r\\nY: b"}', 18,
        "checks.front.steps.0.headers.X", "pattern"),
    "header's name with a space": ('8080/"', '8080/", headers: {"X Y": a}', 18,
        "checks.front.steps.0.headers.X Y", "pattern"),
    "body with what JSON has not": ('8080/"', '8080/", body: {a: [{b: .nan}]}', 18,
        "checks.front.steps.0.body", "nan is no number that JSON has"),
    "half of a character": ('8080/"', '8080/", expect: {contains: "\\uD800"}', 18,
        "checks.front.steps.0.expect.contains", "half of a character"),
    "readiness at a fragment": ("data: [/data]",
        "data: [/data]\n    readiness: {http: {port: 80, path: /#a}}", 15,
        "services.db.readiness.http.path", "pattern"),
    "check of an unknown service": ("{steps:", "{needs: [dbx], steps:", 18, "checks.front.needs.0",
        "unknown need dbx"),
    "duplicate key": ("data: [/data]", "data: [/data]\n    data: [/more]", 15, "services.db.data",
        "appears twice"),
    "alias": ("[redis-server]", "*command", 13, "(file)", "YAML aliases are not allowed"),
    "not YAML": ("[nginx]", "[nginx", 9, "(file)", "not YAML: "),
    "tab": ("    data:", "\tdata:", 14, "(file)", "not YAML: "),
}
# fmt: on


@pytest.mark.parametrize(("old", "new", "line", "path", "message"), BAD.values(), ids=list(BAD))
def test_wrong_file_is_refused_with_its_place(
    run: Run,
    stack: Callable[..., Path],
    old: str,
    new: str,
    line: int,
    path: str,
    message: str,
) -> None:
    assert GOOD.count(old) == 1, "the case must change one place"
    file = stack(GOOD.replace(old, new))
    code, out, err = run("validate", file)
    assert (code, out) == (2, "")
    hits = [text for text in err.splitlines() if text.startswith(f"{file}:{line}: {path}: ")]
    assert hits, err
    assert message in hits[0]


def test_wrong_step_is_one_problem(run: Run, stack: Callable[..., Path]) -> None:
    code, _, err = run("validate", stack(GOOD.replace(":8080/", ":99999/")))
    assert code == 2
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [case[:2] for case in BAD.values()],
    ids=list(BAD),
)
def test_words_are_a_person_s(run: Run, stack: Callable[..., Path], old: str, new: str) -> None:
    _, _, err = run("validate", stack(GOOD.replace(old, new)))
    inner = ("Input should", "literal[", "tuple", "dictionary", "instance of", "validat", "func")
    assert not [word for word in inner if word in err], err


@pytest.mark.parametrize("outbound", ["deny", "[x]", "{a: 1}", "5"])
def test_way_out_is_one_problem(run: Run, stack: Callable[..., Path], outbound: str) -> None:
    text = GOOD.replace("data: [/data]", f"data: [/data]\n    outbound: {outbound}")
    assert len(run("validate", stack(text))[2].splitlines()) == 1


def test_known_keys_are_listed_once(run: Run, stack: Callable[..., Path]) -> None:
    text = GOOD.replace("data: [/data]", "data: [/data]\n    restart: always\n    prots: []")
    lines = run("validate", stack(text))[2].splitlines()
    assert [line.partition(": unknown key")[2] for line in lines][1:] == [" (did you mean ports?)"]
    assert "known here: accounts, " in lines[0]


def test_every_problem_is_told_at_once(run: Run, stack: Callable[..., Path]) -> None:
    text = GOOD.replace("10.9.0.20", "10.8.0.20").replace("[db]", "[dbx]")
    code, _, err = run("validate", stack(text))
    assert code == 2
    assert [int(line.split(":")[1]) for line in err.splitlines()] == [10, 12]


def test_template_that_cannot_be_parsed_is_refused(
    run: Run, stack: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "a.j2").write_text("{% if %}")
    files = "data: [/data]\n    files:\n      /a: {template: a.j2}\n      /b: {template: b.j2}"
    file = stack(GOOD.replace("data: [/data]", files))
    code, _, err = run("validate", file)
    assert code == 2
    assert f"{file}:16: services.db.files./a: template a.j2: " in err
    assert f"{file}:17: services.db.files./b: template b.j2: " in err


def test_good_template_is_rendered_without_secrets_on_disk(
    run: Run, stack: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "a.j2").write_text("{{ address('web') }} {{ secret('pw') }} {{ stack }}")
    files = "data: [/data]\n    files: {/a: {template: a.j2}}"
    assert run("validate", stack(GOOD.replace("data: [/data]", files)))[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: (file): must be a mapping"),
        (b"# nothing\n", ":1: (file): must be a mapping"),
        (b"- a\n- b\n", ":1: (file): must be a mapping"),
        (b"just words\n", ":1: (file): must be a mapping"),
        (b"name: x\n#" + b"y" * 2_000_000, ":1: (file): larger than 1,000,000 bytes"),
        (b"a: &x [1]\nb: *x\n", ":2: (file): YAML aliases are not allowed"),
        (b"[" * 1000, ":1: (file): "),
        (b"\x7fELF\x02\x01\x01\x00", ":1: (file): not YAML"),
        (b"name: \x00\n", ":1: (file): not YAML"),
        (b"\xff\xfe\x00", "cannot read the stack file"),
    ],
    ids=[
        "empty",
        "comment",
        "list",
        "scalar",
        "2 MB",
        "alias",
        "deep",
        "program",
        "zero byte",
        "binary",
    ],
)
def test_file_that_is_no_stack_is_refused(
    run: Run, stack: Callable[..., Path], content: bytes, message: str
) -> None:
    file = stack(content)
    code, out, err = run("validate", file)
    assert (code, out) == (2, "")
    assert str(file) in err
    assert message in err


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_file_that_cannot_be_read_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    code, out, err = run("validate", tmp_path / name)
    assert (code, out) == (2, "")
    assert f"cannot read the stack file {tmp_path / name}" in err
    assert "Errno" not in err


# -- schema --------------------------------------------------------------------------------


@pytest.fixture
def validator(run: Run) -> jsonschema.Draft202012Validator:
    code, out, _ = run("schema")
    assert code == 0
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


RICH = yaml.safe_load((Path(__file__).parents[1] / "data" / "rich.yaml").read_text())


@pytest.mark.parametrize("data", [yaml.safe_load(GOOD), RICH], ids=["short", "rich"])
def test_schema_takes_what_the_program_takes(
    validator: jsonschema.Draft202012Validator,
    run: Run,
    stack: Callable[..., Path],
    tmp_path: Path,
    data: Any,
) -> None:
    (tmp_path / "x.j2").write_text("")
    assert [error.message for error in validator.iter_errors(data)] == []
    assert run("validate", stack(yaml.safe_dump(data)))[0] == 0


NOT_IN_SCHEMA = (
    "unknown top key",
    "unknown service key",
    "unknown network key",
    "missing name",
    "missing command of a job",
    "command is no list",
    "empty command",
    "services is a list",
    "unknown condition",
    "text for a number",
    "check of another protocol",
)


@pytest.mark.parametrize("case", NOT_IN_SCHEMA)
def test_schema_refuses_what_is_wrong_in_form(
    validator: jsonschema.Draft202012Validator, case: str
) -> None:
    old, new, *_ = BAD[case]
    assert not validator.is_valid(yaml.safe_load(GOOD.replace(old, new)))


def test_shipped_schema_is_the_program_s_own(run: Run) -> None:
    path = Path(__file__).parents[2] / "services" / "stack.schema.json"
    if not path.exists():
        pytest.skip("made by: orchestrator schema > services/stack.schema.json")
    assert run("schema")[1] == path.read_text()


def test_shipped_stack_is_valid(run: Run, validator: jsonschema.Draft202012Validator) -> None:
    path = Path(__file__).parents[2] / "services" / "stack.yaml"
    if not path.exists():
        pytest.skip("there is no stack of our own yet")
    assert run("validate", path)[0] == 0
    assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: shop\n", 'name: shop\n"tuple[x]": 1\n'),
        ("name: shop\n", 'name: shop\n"literal[x": 1\n'),
        ("name: shop\n", 'name: shop\n"[key]": 1\n'),
        ("command: [nginx]", f"command: [nginx]\n    nice: 0x{'f' * 5000}"),
    ],
    ids=["tuple", "literal", "key", "huge"],
)
def test_whatever_stands_there_the_problem_has_words(
    run: Run, stack: Callable[..., Path], old: str, new: str
) -> None:
    code, _, err = run("validate", stack(GOOD.replace(old, new)))
    assert code == 2
    assert "stack.yaml:" in err
    assert len(err) < 2000
