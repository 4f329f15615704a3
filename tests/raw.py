"""HTTP by hand: requests that no client would write, from any place of a lab."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.linux import inside

if TYPE_CHECKING:
    from rig import World

PATIENCE_S = 60.0  # a server that keeps a connection for so long hangs


@dataclass(frozen=True)
class Answer:
    """One answer; `closed` if the server then hung up."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool

    def problem(self) -> Any:
        assert self.headers["content-type"].startswith("application/problem+json"), self
        document = json.loads(self.body)
        assert document["type"] == "about:blank"
        assert document["title"]
        return document


def connect(world: World, where: str, address: tuple[str, int], source: str = "") -> socket.socket:
    """From the host (""), from `outside`, or from a service's namespace."""
    names = {"": world.host, "outside": world.outside}
    namespace = names.get(where, f"{world.host}.{where}")
    with inside(Path("/run/netns", namespace)):
        return socket.create_connection(address, PATIENCE_S, (source, 0) if source else None)


def receive(connection: socket.socket) -> Answer | None:
    """The next final answer; None if the server hangs up without one. Fails if it hangs."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        headers = {key.lower(): value for key, value in response.getheaders()}
        return Answer(response.status, headers, response.read(), response.will_close)
    except (http.client.BadStatusLine, ConnectionError):
        return None
    finally:
        response.close()


def ask(connection: socket.socket, request: bytes) -> Answer | None:
    """Sends all of it, even where the server answers and hangs up before it has read it."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(request)
    return receive(connection)
