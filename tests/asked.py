"""One request at a time through the shop, and what the edge's log says of each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from rig import eventually

from orchestrator.linux import NETNS_DIR, inside
from orchestrator.path.spans import Request, Stay, parse, shares

if TYPE_CHECKING:
    from rig import World

EDGE = "nginx-lb"
ORDER = json.dumps({"customer_id": "asked", "product_id": 4, "quantity": 1})
FRESH = {"Cache-Control": "no-cache"}  # from the database
REQUESTS: dict[str, tuple[str, str, str | None, dict[str, str]]] = {
    "product": ("GET", "/api/products/1", None, FRESH),
    "cached product": ("GET", "/api/products/1", None, {}),
    "order read": ("GET", "/api/orders/1", None, {}),
    "order": ("POST", "/api/orders", ORDER, {"Content-Type": "application/json"}),
}


@dataclass(frozen=True)
class Asked:
    """A request as the edge's log has it."""

    request: Request

    @property
    def total_ms(self) -> float:
        return self.request.total_us / 1000

    @cached_property
    def _shares(self) -> tuple[dict[str, float], float]:
        found = shares(self.request)
        parts = {hop: us / 1000 for hop, us in found.hops.items()}
        for client, server, there_us, back_us in found.transits:
            name = f"{client} → {server}"
            parts[name] = parts.get(name, 0.0) + (there_us + back_us) / 1000
        return parts, found.unattributed_us / 1000

    @property
    def parts_ms(self) -> dict[str, float]:
        """Each hop's own time, and that of each way, there and back."""
        return self._shares[0]

    @property
    def unattributed_ms(self) -> float:
        return self._shares[1]

    def stays(self) -> Iterator[Stay]:
        """Of every hop that stamps, the edge first."""

        def below(stay: Stay) -> Iterator[Stay]:
            yield stay
            for call in stay.calls:
                if call.stay is not None:
                    yield from below(call.stay)

        return below(self.request.root)


class Asker:
    """Asks, and reads the log itself: no supervisor must be there."""

    def __init__(self, world: World) -> None:
        [log] = world.run_dir.glob("**/requests.tsv")
        self._file = log.open()
        self._file.seek(0, 2)
        self._begun = ""
        self._found: dict[str, Request] = {}
        self._host = NETNS_DIR / world.host

    def ask(self, kind: str) -> str:
        """One of REQUESTS; returns the trace's id once it is answered."""
        trace = f"{random.getrandbits(128) or 1:032x}"
        method, path, body, headers = REQUESTS[kind]
        parent = {"traceparent": f"00-{trace}-00000000000000aa-01"}
        connection = HTTPConnection("127.0.0.1", 8080, timeout=30)
        with inside(self._host):
            connection.connect()
        connection.request(method, path, body, {**headers, **parent})
        answer = connection.getresponse()
        assert answer.status in (200, 201), answer.read()
        connection.close()
        return trace

    def told(self, trace: str) -> Asked:
        """That request in the log, which nginx writes every 100 ms."""
        eventually(lambda: trace in self._read())
        return Asked(self._found.pop(trace))

    def _read(self) -> dict[str, Request]:
        self._begun += self._file.read()
        *lines, self._begun = self._begun.split("\n")
        for line in lines:
            request = parse(line, EDGE)
            self._found[request.trace] = request
        return self._found

    def close(self) -> None:
        self._file.close()
