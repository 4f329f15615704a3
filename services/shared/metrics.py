"""A service's own metrics for Prometheus, on a port and a thread of their own."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time

PORT = 9100
BACKLOG = 5
RETRY_S = 0.5  # while the process that we replace still has the port


class Requests:
    """Requests inside this hop, and those that were answered, by the class of their status.

    Plain numbers: under one thread at a time (aiohttp) or the interpreter's lock they are
    right to within what a scrape could tell apart, at a tenth of a metric object's cost.
    """

    def __init__(self, hop: str) -> None:
        self.hop = hop
        self.begun = 0
        self.answered = dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx"), 0)

    def answer(self, status: int) -> None:
        self.answered[f"{status // 100}xx"] += 1

    @property
    def inside(self) -> int:
        return self.begun - sum(self.answered.values())


def serve(hop: str) -> Requests:
    """Begins to answer scrapes; returns what is to be counted."""
    requests = Requests(hop)
    threading.Thread(target=_answer, args=(requests,), name="metrics", daemon=True).start()
    return requests


def _answer(requests: Requests) -> None:
    listening = _listener()
    if listening is None:
        return
    select.select([listening], [], [])
    # With the first scrape: loading it takes 30 ms, and the start of the platform waits for us.
    from shared.exposition import serve_forever

    serve_forever(listening, requests)


def _listener() -> socket.socket | None:
    while True:
        try:
            return socket.create_server(("", PORT), backlog=BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return None
            time.sleep(RETRY_S)
