"""The bench's client, against a server that ends connections as nginx does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from bench.turns import Client

CONNECTIONS, TURNS, TURN_S = 4, 20, 0.005
HEAD = "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n"
LENGTHS = 1, 2, 3  # in turn: a catalogue whose stock falls has fewer digits


class Server(ThreadingTCPServer):
    """Answers GETs; ends a connection after so many."""

    def __init__(self, answers: int) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.answers, self.answered = answers, 0
        self.counting = threading.Lock()


class Connection(StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            for _ in range(self.server.answers):
                while (line := self.rfile.readline()) != b"\r\n":
                    if not line:
                        return
                with self.server.counting:
                    self.server.answered += 1
                    length = LENGTHS[self.server.answered % len(LENGTHS)]
                self.wfile.write(HEAD.format(length).encode() + b"x" * length)


@pytest.fixture(params=[1, 2, 7, 10**6])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as found:
        serving = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield found
        found.shutdown()
        serving.join()


def test_every_request_is_answered_within_its_turn(server: Server) -> None:
    port = server.socket.getsockname()[1]
    client = Client(None, "127.0.0.1", port, "/", connections=CONNECTIONS)
    server.answered = 0
    with contextlib.closing(client):
        for _ in range(TURNS):
            turn = client.turn(TURN_S)
            assert server.answered == client.answered
            assert turn.requests <= client.answered
