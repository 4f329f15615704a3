"""The order service's application in this process, with a proxy before its PostgreSQL that does
what a breaking connection does. Run in that service's namespace:

    python ordering.py lose|tell|hold SECRETS

`lose`: the answer to an order is lost, after it was committed. `tell`: with the answer to an order
comes word that the server goes. `hold`: no answer comes any more, nor a connection. Prints a line
of JSON for each order: status and body.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path

SERVICES = Path(__file__).parents[2] / "services"
ORDER = {"product_id": 1, "quantity": 1}
# Its one row was asked for and is there, the transaction is done: PortalSuspended, ReadyForQuery
# (PostgreSQL documentation, "Message Formats").
COMMITTED = b"s\0\0\0\4Z\0\0\0\5I"
FATAL = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
GOES = b"E" + (len(FATAL) + 4).to_bytes(4, "big") + FATAL  # ErrorResponse
LONGEST_S = 0.5


class Proxy:
    """Passes on what comes, until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.once = ""  # what is done with the next order's answer
        self.passes = threading.Event()
        self.passes.set()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._target)
            for ends in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        while data := _received(source):
            if is_answer:
                if self.once and COMMITTED in data:
                    how, self.once = self.once, ""
                    if how == "lose":
                        break
                    data += GOES
                self.passes.wait()
            try:
                target.sendall(data)
            except OSError:
                break
        for each in (source, target):
            with contextlib.suppress(OSError):  # the other thread was the first
                each.shutdown(socket.SHUT_RDWR)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


def main(how: str, secrets: Path) -> None:
    proxy = Proxy("postgres-db", 5432)
    os.environ |= {
        "DATABASE_HOST": "localhost",
        "DATABASE_PORT": str(proxy.port),
        "DATABASE_USER": "orders",
        "DATABASE_PASSWORD_FILE": str(secrets / "orders-password"),
        "REDIS_HOST": "redis-cache",
        "REDIS_USER": "order",
        "REDIS_PASSWORD_FILE": str(secrets / "redis-order-password"),
    }
    sys.path.insert(0, str(SERVICES))
    from order.app import app
    from shared import database

    client = app.test_client()

    def order() -> None:
        answer = client.post("/orders", json={**ORDER, "customer_id": how})
        print(json.dumps({"status": answer.status_code, "body": answer.json}), flush=True)

    order()
    if how == "hold":
        database.LONGEST_S = LONGEST_S
        proxy.passes.clear()
        order()
        proxy.passes.set()
        order()
    else:
        proxy.once = how
        order()
        assert not proxy.once
        order()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
