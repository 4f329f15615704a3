"""How a service proves that it is ready, as a part of the stack's models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from orchestrator.fields import Model, Name, Port, Seconds, Text


class HttpProbe(Model):
    """GET answers with that status and a body that contains the text."""

    port: Port
    path: Annotated[str, StringConstraints(pattern=r"^/[\x21\x22\x24-\x7e]*$")] = "/health"
    status: Annotated[int, Field(ge=100, le=599)] = 200
    contains: str = ""


class PostgresProbe(Model):
    """SELECT 1 on that database as that user."""

    database: Text
    port: Port = 5432
    user: Text = "postgres"
    password: Name | None = Field(None, description="Name of the secret that holds it.")


class RedisProbe(Model):
    """PING answers PONG."""

    port: Port = 6379
    user: Text | None = None
    password: Name | None = Field(None, description="Name of the secret that holds it.")


class Readiness(Model):
    """Everything that is given must hold, in this order: notify, tcp, then the protocols."""

    notify: bool = Field(False, description="The program sends READY=1 (sd_notify).")
    tcp: Port | None = None
    http: HttpProbe | None = None
    postgres: PostgresProbe | None = None
    redis: RedisProbe | None = None
    interval_s: Seconds = Field(
        0.008, alias="interval", description="Longest pause between two probes; the first is 2 ms."
    )
