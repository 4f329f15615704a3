"""Who counts as alive: by an answer or a close, over connections kept or new."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from orchestrator.processes.liveness import KEPT_ROUNDS, Asker, Question

Serve = Callable[[socket.socket], None]
PATIENT_S = 20.0  # whoever answers does so long before


@contextlib.contextmanager
def server(serve: Serve) -> Iterator[int]:
    """Each connection is served by a thread of its own, until the end; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_: list[socket.socket] = [listener]

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_.append(connection)
                threading.Thread(target=quietly, args=(connection,), daemon=True).start()

    def quietly(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            serve(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for each in open_:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def answer(connection: socket.socket) -> None:
    while connection.recv(100):
        connection.sendall(b"yes")


def answer_once(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"yes")
    connection.close()


def close(connection: socket.socket) -> None:
    connection.close()


def asker(port: int) -> contextlib.closing[Asker]:
    return contextlib.closing(Asker({"it": [Question("127.0.0.1", port, b"?")]}))


@pytest.mark.parametrize("serve", [answer, answer_once, close])
def test_program_that_reacts_is_alive_each_time(serve: Serve) -> None:
    with server(serve) as port, asker(port) as found:
        for _ in range(2 * KEPT_ROUNDS):
            assert found.silent(patience_s=PATIENT_S) == []


def test_program_that_says_nothing_is_silent() -> None:
    """Two services at once: the answer of one is not taken for the other's."""
    with server(lambda _: threading.Event().wait()) as mute, server(answer) as well:
        questions = {
            "mute": [Question("127.0.0.1", mute, b"?")],
            "well": [Question("127.0.0.1", well, b"?")],
        }
        with contextlib.closing(Asker(questions)) as found:
            assert found.silent(patience_s=0.5) == ["mute"]


def test_where_nobody_listens_is_silence() -> None:
    with server(answer) as port:
        pass
    with asker(port) as found:
        assert found.silent(patience_s=PATIENT_S) == ["it"]


def test_who_accepts_nobody_more_is_found_though_it_goes_on_to_answer() -> None:
    """A full accept queue is what a program out of descriptors leaves behind."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)

    def serve_one() -> None:
        connection, _ = listener.accept()
        with connection:
            answer(connection)

    first = threading.Thread(target=serve_one)
    first.start()
    with listener:
        with asker(listener.getsockname()[1]) as found:
            assert found.silent(patience_s=PATIENT_S) == []
            rounds = [found.silent(patience_s=0.2) for _ in range(KEPT_ROUNDS)]
        first.join()
    assert ["it"] in rounds
    assert [] in rounds


def test_renewed_question_goes_over_a_connection_of_its_own() -> None:
    asked: list[socket.socket] = []

    def note(connection: socket.socket) -> None:
        asked.append(connection)
        answer(connection)

    with server(note) as port, asker(port) as found:
        for name in ("other", "it"):
            found.silent(patience_s=PATIENT_S)
            found.renew([name])
        found.silent(patience_s=PATIENT_S)
        assert len(asked) == 2
