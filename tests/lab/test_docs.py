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
    from orchestrator.cli import COMMANDS

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
