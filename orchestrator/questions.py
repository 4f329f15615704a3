"""What a stack asks: readiness probes of services, requests of checks."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.processes import probes
from orchestrator.processes.check import CheckProbe, Request
from orchestrator.processes.files import Secrets
from orchestrator.spec import Check, Stack


def probes_of(stack: Stack, name: str, secrets: Secrets) -> list[probes.Probe]:
    """A service's readiness probes, in the order in which they are asked."""
    ready = stack.services[name].readiness
    host = str(stack.address_of(name))
    found: list[probes.Probe] = []
    if ready.tcp is not None:
        found.append(probes.TcpProbe(host, ready.tcp))
    if ready.http is not None:
        url = f"http://{host}:{ready.http.port}{ready.http.path}"
        found.append(probes.HttpProbe(url, ready.http.status, ready.http.contains))
    if ready.postgres is not None:
        want = ready.postgres
        password = _password(secrets, want.password)
        found.append(probes.PostgresProbe(host, want.port, want.database, want.user, password))
    if ready.redis is not None:
        password = _password(secrets, ready.redis.password)
        found.append(probes.RedisProbe(host, ready.redis.port, ready.redis.user, password))
    return found


def _password(secrets: Secrets, secret: str | None) -> Callable[[], str | None]:
    return lambda: secrets.get(secret) if secret else None


def check_probe(check: Check) -> CheckProbe:
    """The check's requests, ready to be made."""
    return CheckProbe(
        [
            Request(
                step.method,
                step.url,
                step.headers,
                step.body,
                step.expect.status,
                step.expect.contains,
                step.expect.json_keys,
                step.save,
            )
            for step in check.steps
        ]
    )
