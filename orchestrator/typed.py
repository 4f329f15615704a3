"""Shell commands that ask what the orchestrator asks, to be copied and typed. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.spec import CheckStep, Readiness

Run = Callable[[str], str]  # gives the command that runs another one in some namespace


def ready_command(ready: Readiness, address: str, secrets: Path, run: Run) -> str:
    """What a service's gate asks, with the service's own password; empty where it asks nothing."""
    if want := ready.postgres:
        password = f"PGPASSWORD=$(cat {secrets / want.password}) " if want.password else ""
        options = f"-h {address} -p {want.port} -U {want.user} -d {want.database}"
        return password + run(f"psql {options} -c 'SELECT 1'")
    if cache := ready.redis:
        password = f"REDISCLI_AUTH=$(cat {secrets / cache.password}) " if cache.password else ""
        user = f"--user {cache.user} " if cache.user else ""
        return password + run(f"redis-cli -h {address} -p {cache.port} {user}ping")
    if ready.http:
        return run(f"curl -i http://{address}:{ready.http.port}{ready.http.path}")
    return run(f"bash -c '</dev/tcp/{address}/{ready.tcp}'") if ready.tcp else ""


def check_command(steps: Sequence[CheckStep], run: Run) -> str:
    """A check's requests in order; what an answer gives for later ones is a shell variable."""
    commands = []
    saved: list[str] = []
    for step in steps:
        command = run(_request(step))
        for name in saved:  # these are within single quotes, since no brace stands without
            command = command.replace("{" + name + "}", f"'\"${_variable(name)}\"'")
        if step.save:
            command = f"answer=$({command})"
        commands.append(command)
        for name, key in step.save.items():
            found = f'"{key}": *"?\\K[^",}}]+'
            grep = f"grep -oP {shlex.quote(found)}"
            commands.append(f'{_variable(name)}=$(echo "$answer" | {grep})')
        saved += step.save
    return "; ".join(commands)


def _request(step: CheckStep) -> str:
    words = ["curl", "-sS" if step.save else "-i"]
    if step.method != "GET":
        words += ["-X", step.method]
    headers = {"Content-Type": "application/json"} if step.body is not None else {}
    for key, value in {**headers, **step.headers}.items():
        words += ["-H", f"{key}: {value}"]
    if step.body is not None:
        words += ["-d", json.dumps(step.body)]
    return shlex.join([*words, step.url])


def _variable(name: str) -> str:
    """Names may begin with a digit, variables may not."""
    return ("_" if name[0].isdigit() else "") + name.replace("-", "_")
