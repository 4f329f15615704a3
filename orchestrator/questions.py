"""What a stack asks: readiness probes of services, requests of checks."""

from __future__ import annotations

from orchestrator.processes import probes
from orchestrator.processes.check import CheckProbe, Request
from orchestrator.processes.secrets import Secrets
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
        passwords = _passwords(secrets, want.password)
        found.append(probes.PostgresProbe(host, want.port, want.database, want.user, passwords))
    if ready.redis is not None:
        passwords = _passwords(secrets, ready.redis.password)
        found.append(probes.RedisProbe(host, ready.redis.port, ready.redis.user, passwords))
    return found


def _passwords(secrets: Secrets, secret: str | None) -> probes.Passwords:
    return lambda: secrets.valid(secret) if secret else (None,)


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
