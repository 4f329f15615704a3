"""What the documents show works as it is written there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import ROOT, World, run

README = (ROOT / "README.md").read_text()
SERVICES = ("nginx-lb", "api-gateway", "product-service", "order-service")


def commands() -> list[str]:
    """Lines of the README's console blocks that look at a running platform."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    looks = [line for line in lines if line.startswith(("curl", "ip ", "iptables"))]
    return [line for line in looks if "delete" not in line and " -F" not in line]


@pytest.mark.parametrize("line", [line for line in commands() if "control.sock" in line])
def test_question_to_the_supervisor_works(watched: World, line: str) -> None:
    here = str(watched.run_dir / f"shop@{watched.host}")
    words = shlex.split(line.replace("/run/orchestrator/shop", here))
    assert run(*words, "-sS", "--fail", "--max-time", "30").ok().out


@pytest.mark.parametrize(
    "line", [line for line in commands() if "lab2" not in line and "control.sock" not in line]
)
def test_command_of_the_readme_works(shop: World, line: str) -> None:
    for service in SERVICES:  # a private lab's namespaces have its host's name before theirs
        line = line.replace(f"netns exec {service}", f"netns exec {shop.host}.{service}")
    words = shlex.split(line, comments=True)
    if words[0] == "curl":
        words[1:1] = ["-sS", "--fail", "--max-time", "10"]
    done = shop.on_host(*words) if words[:2] != ["ip", "netns"] else shop.direct(*words)
    assert done.ok().out


def test_readme_names_every_command() -> None:
    from orchestrator.commandtable import COMMANDS

    assert [name for name in COMMANDS if not re.search(rf"`[^`]*\b{name}\b", README)] == []


def test_stack_of_the_documentation_comes_up(
    world: World, write_stack: Callable[..., Path]
) -> None:
    found = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "stack.md").read_text(), re.DOTALL)
    assert found is not None
    stack = write_stack(found[1])
    world.orchestrator("up", stack=stack).ok()
    answer = world.curl("http://localhost:8088/").ok().out
    assert answer == "the cache is at 10.20.0.20\n"


def example(command: str) -> list[str]:
    """What the README says that the command prints."""
    found = re.search(rf"```\n# {re.escape(command)}\n(.*?)```", README, re.DOTALL)
    assert found is not None, command
    return found[1].splitlines()


def shape(line: str) -> str:
    """The line without what differs from run to run."""
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "0", line)).strip()


def test_replay_prints_what_the_readme_shows(shop: World) -> None:
    printed = map(shape, shop.orchestrator("replay", "gateway").ok().out.splitlines())
    for wanted in example("orchestrator replay gateway"):
        begin = "connections that break: " if wanted.startswith("connections") else shape(wanted)
        assert any(line.startswith(begin) for line in printed), f"in its place: {wanted}"


def test_critical_chain_prints_what_the_readme_shows(shop: World) -> None:
    run_ = re.compile(
        r"up [0-9a-f-]+: changed, \S+s, \d+ nodes; own work along the critical path .+"
    )
    phases = r"(provision|readiness_wait|slot_wait|backoff) \S+s"
    late = r"(, after a hand-over of \S+s)?"  # on a busy machine
    link = re.compile(
        rf"( *└─)?(\S+:\S+) @\S+s \+\S+s( until started)? +\({phases}(, {phases})*{late}\)"
    )
    nodes = shop.node_states()
    printed = shop.orchestrator("analyze", "critical-chain").ok().out.splitlines()
    shown = example("orchestrator analyze critical-chain")
    # On a busy machine Prometheus may be the last to be ready: the network is all of its chain.
    for lines, least in ((printed, 2), (shown, 4)):
        assert run_.fullmatch(lines[0]), lines[0]
        links = [found for line in lines if (found := link.fullmatch(line))]
        assert len(links) >= least
        assert {found[2] for found in links} <= set(nodes)
    assert len(links) == len([line for line in shown if line]) - 1


def test_commands_that_verify_shows_work_when_copied(shop: World) -> None:
    rows = shop.orchestrator("verify", "--json").ok().json()["rows"]
    copied = [row["command"] for row in rows if row["group"] in ("service", "check")]
    assert any("redis-cli" in command for command in copied)
    assert any("psql" in command for command in copied)
    assert any("grep" in command for command in copied)  # a later request needs an answer
    for command in copied:
        said = run("bash", "-c", command).ok().out
        assert re.search(r"HTTP/1.1 200|PONG|\(1 row\)", said), f"{command}: {said}"
        assert not re.search(r"HTTP/1.1 [345]", said), f"{command}: {said}"
