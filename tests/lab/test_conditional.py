"""A service whose program comes and goes on this host: `when: {program: …}`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rig import World

Write = Callable[..., Path]

STACK = """
name: maybe
networks: {{br-app: {{address: 10.0.0.1/16}}}}
path: [{tools}]
services:
  web:
    networks: {{br-app: 10.0.0.10}}
    command: [python, -m, http.server, "80", --directory, /run/site]
    files: {{/run/site/index.html: {{content: "{{{{ services }}}} {{{{ address('tiny') }}}}"}}}}
    readiness: {{tcp: 80}}
    needs: [tiny, greet]
  tiny:
    when: {{program: tiny-server, otherwise: install it by hand}}
    networks: {{br-app: 10.0.0.20}}
    command: [tiny-server]
    ports: ["8088:80"]
    data: [/data]
    readiness: {{http: {{port: 80, path: /greeting, contains: hello}}}}
jobs:
  greet: {{of: tiny, command: [sh, -c, "echo hello > /data/greeting"], creates: /data/greeting}}
checks:
  tiny-answers:
    gate: true
    needs: [tiny]
    steps: [{{url: "http://localhost:8088/greeting", expect: {{contains: hello}}}}]
"""
# In /opt, which sandboxes see: tmp_path is not.
SERVER = """#!/bin/sh
exec python3 -m http.server 80 --directory /data
"""


def test_service_appears_and_goes_with_its_program(world: World, write_stack: Write) -> None:
    tools = Path("/opt", world.host)
    tools.mkdir()
    try:
        _come_and_go(world, write_stack(STACK.format(tools=tools)), tools / "tiny-server")
    finally:
        for path in tools.iterdir():
            path.unlink()
        tools.rmdir()


def _come_and_go(world: World, stack: Path, program: Path) -> None:
    before = world.fingerprint()
    word = "tiny: left out, tiny-server is not installed; install it by hand"
    assert word in world.orchestrator("validate", stack=stack).ok().out
    assert word in world.orchestrator("doctor", stack=stack).out

    # Without it: no namespace, no port, no rule; who needs it comes up, and knows its address.
    assert word in world.orchestrator("up", stack=stack).ok().out
    nodes = set(world.node_states(stack=stack))
    assert nodes >= {"service:web", "veth:web"}
    assert not [name for name in nodes if "tiny" in name or "greet" in name]
    assert world.curl("http://10.0.0.10/").ok().out == "['web'] 10.0.0.20"
    assert world.curl("http://localhost:8088/greeting").code != 0
    assert "nothing was changed" in world.orchestrator("up", stack=stack).ok().out
    world.orchestrator("verify", stack=stack).ok()

    # With it: the same file brings it up, with its job, its port and its check.
    program.write_text(SERVER)
    program.chmod(0o755)
    out = world.orchestrator("up", stack=stack).ok().out
    assert "check:tiny-answers: check passed" in out
    assert "left out" not in out
    assert world.curl("http://localhost:8088/greeting").ok().out == "hello\n"
    assert world.curl("http://10.0.0.10/").ok().out == "['web', 'tiny'] 10.0.0.20"
    world.orchestrator("verify", stack=stack).ok()

    # Uninstalled while it runs: `up` takes away what is left of it, once.
    program.unlink()
    out = world.orchestrator("up", stack=stack).ok().out
    assert "prune" in out
    assert word in out
    assert world.curl("http://localhost:8088/greeting").code != 0
    assert world.sandbox_pids("tiny") == []
    assert "nothing was changed" in world.orchestrator("up", stack=stack).ok().out

    # Uninstalled before `down`: nothing of it stays.
    program.write_text(SERVER)
    program.chmod(0o755)
    world.orchestrator("up", stack=stack).ok()
    program.unlink()
    world.orchestrator("down", stack=stack).ok()
    assert world.sandboxes() == []
    assert world.fingerprint() == before
