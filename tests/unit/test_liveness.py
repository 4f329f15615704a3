"""Who counts as alive: by an answer or a close, over connections kept or new."""

from __future__ import annotations

import contextlib
import socket
import struct
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


def close_after(connection: socket.socket) -> None:
    connection.recv(100)
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def silent(asker: Asker, *, patience_s: float = PATIENT_S) -> list[str]:
    """One round."""
    asker.ask()
    asker.wait(patience_s=patience_s)
    return asker.silent()


def asker(port: int) -> contextlib.closing[Asker]:
    return contextlib.closing(Asker({"it": [Question("127.0.0.1", port, b"?")]}))


@pytest.mark.parametrize("serve", [answer, answer_once])
def test_program_that_answers_is_alive_each_time(serve: Serve) -> None:
    with server(serve) as port, asker(port) as found:
        for _ in range(2 * KEPT_ROUNDS):
            assert silent(found) == []


def test_program_that_says_nothing_is_silent() -> None:
    """Two services at once: the answer of one is not taken for the other's."""
    with server(lambda _: threading.Event().wait()) as mute, server(answer) as well:
        questions = {
            "mute": [Question("127.0.0.1", mute, b"?")],
            "well": [Question("127.0.0.1", well, b"?")],
        }
        with contextlib.closing(Asker(questions)) as found:
            assert silent(found, patience_s=0.5) == ["mute"]


@pytest.mark.parametrize("serve", [close, close_after, reset])
def test_closing_without_a_word_is_no_answer(serve: Serve) -> None:
    """As by a program that has no descriptor or no place left for whoever comes."""
    with server(serve) as port, asker(port) as found:
        assert [silent(found) for _ in range(3)] == [["it"]] * 3


def test_closed_while_it_was_kept_is_asked_anew_at_once() -> None:
    turns = iter([answer_once, answer_once, close])
    with server(lambda connection: next(turns)(connection)) as port, asker(port) as found:
        assert [silent(found) for _ in range(3)] == [[], [], ["it"]]


def test_whoever_has_not_answered_yet_is_heard_later() -> None:
    may = threading.Event()

    def late(connection: socket.socket) -> None:
        may.wait()
        answer(connection)

    with server(late) as port, asker(port) as found:
        found.ask()
        assert not found.hear()
        may.set()
        found.wait(patience_s=PATIENT_S)
        assert found.silent() == []


def test_where_nobody_listens_is_silence() -> None:
    with server(answer) as port:
        pass
    with asker(port) as found:
        assert silent(found) == ["it"]


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
            assert silent(found) == []
            rounds = [silent(found, patience_s=0.2) for _ in range(KEPT_ROUNDS)]
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
            silent(found)
            found.renew([name])
        silent(found)
        assert len(asked) == 2
