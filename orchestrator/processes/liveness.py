"""Liveness: the least that a program must do to prove that it is not hung.

Asked every second for ever, so it is made of a few bytes, without the libraries that the
readiness probes use: all services are asked at once, and heard a moment later. The kernel alone
accepts connections for a stopped program, and one that accepts and closes without a word has no
place for anybody: only words are an answer. Connections are kept, which is four times cheaper; but
each in its turn is made anew, since a program that can accept no other would go on to answer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from orchestrator.processes.probes import HttpProbe, PostgresProbe, Probe, RedisProbe

# A program that has nothing else to do answers in a millisecond. Late answers are no
# failures: whoever asks looks at what the program did meanwhile.
LIVENESS_TIMEOUT_S = 0.25

# PostgreSQL documentation, "Message Formats": SSLRequest; one byte, S or N, comes back.
SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])
READ_BYTES = 1 << 12
KEPT_ROUNDS = 10  # a connection serves for so many questions


class Question(Struct, frozen=True):
    """Where to ask, and with what words; whether the same connection can be asked again."""

    host: str
    port: int
    words: bytes
    is_repeatable: bool = True


def question(probe: Probe) -> Question | None:
    """The first words of the probe's protocol; None where there is nothing to say."""
    match probe:
        case HttpProbe(url=url):
            parts = urlsplit(url)
            head = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.hostname}\r\n\r\n"
            return Question(str(parts.hostname), parts.port or 80, head.encode())
        case RedisProbe(host=host, port=port):
            return Question(host, port, b"PING\r\n")  # +PONG, or -NOAUTH: it is alive
        case PostgresProbe(host=host, port=port):
            return Question(host, port, SSL_REQUEST, is_repeatable=False)
        case _:
            return None


class _Call(Struct):
    name: str
    asked: Question
    connection: socket.socket
    is_sent: bool = False
    is_kept: bool = False


class Asker:
    """Asks the same questions again and again. For one thread at a time.

    First `ask`, a moment later `hear`, and where that was too early `wait`; then `silent` is known.
    """

    def __init__(self, questions: Mapping[str, Collection[Question]]) -> None:
        self._questions = [(name, each) for name, asked in questions.items() for each in asked]
        self._kept: dict[Question, socket.socket] = {}
        self._touched: set[int] = set()  # descriptors of kept ones that something has come over
        self._round = 0
        self._open: list[_Call] = []
        self._silent: set[str] = set()
        self._asked_s = 0.0

    def close(self) -> None:
        """Leaves nothing open."""
        self._give_up()
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def renew(self, names: Collection[str]) -> None:
        """Asks these over a connection of its own the next time."""
        for name, asked in self._questions if names else ():
            if name in names:
                self._leave(asked)

    def ask(self) -> None:
        """Puts every question; waits for nothing."""
        self._give_up()
        self._silent.clear()
        self._round += 1
        self._asked_s = time.monotonic()
        self._touched = _readable(self._kept.values())
        for number, (name, asked) in enumerate(self._questions):
            if (self._round + number) % KEPT_ROUNDS == 0:
                self._leave(asked)
            self._open.append(self._again(name, asked) or _anew(name, asked))

    def hear(self) -> bool:
        """Takes the answers that are there; whether that settles all questions."""
        calls, self._open = self._open, []
        for call in calls:
            try:
                _send(call)
                said = call.connection.recv(READ_BYTES)
            except BlockingIOError:
                self._open.append(call)
            except OSError:
                self._answered(call, b"")
            else:
                self._answered(call, said)
        return not self._open

    def wait(self, *, patience_s: float = LIVENESS_TIMEOUT_S) -> None:
        """Blocks until all have answered or so long after they were asked."""
        until_s = self._asked_s + patience_s
        while not self.hear() and (left_s := until_s - time.monotonic()) > 0:
            ready = select.poll()
            for call in self._open:
                ready.register(call.connection, select.POLLIN if call.is_sent else select.POLLOUT)
            ready.poll(left_s * 1000)
        self._give_up()

    def silent(self) -> list[str]:
        """Of those last asked the ones whose programs did not answer in time."""
        return [name for name in dict(self._questions) if name in self._silent]

    def _give_up(self) -> None:
        """Whoever has not answered by now is silent."""
        for call in self._open:
            self._silent.add(call.name)
            call.connection.close()
        self._open.clear()

    def _leave(self, asked: Question) -> None:
        """The next time it is asked over a connection of its own."""
        if (connection := self._kept.pop(asked, None)) is not None:
            connection.close()

    def _again(self, name: str, asked: Question) -> _Call | None:
        """Over the connection of before; None if there is none to go on with."""
        connection = self._kept.pop(asked, None)
        if connection is None:
            return None
        try:
            if connection.fileno() in self._touched:
                _empty(connection)
            connection.send(asked.words)
        except OSError:
            connection.close()
            return None
        return _Call(name, asked, connection, is_sent=True, is_kept=True)

    def _answered(self, call: _Call, said: bytes) -> None:
        """What came of a call; nothing is said by who closes. Keeps the connection, if it can
        be."""
        if said and call.asked.is_repeatable:
            self._kept[call.asked] = call.connection
            return
        call.connection.close()
        if not said and call.is_kept:
            # Closed while it was kept: that says nothing of the program of now.
            self._open.append(_anew(call.name, call.asked))
        elif not said:
            self._silent.add(call.name)


def silent(questions: Mapping[str, Collection[Question]]) -> list[str]:
    """Once, in a thread that may block; see `Asker.silent`."""
    with contextlib.closing(Asker(questions)) as asker:
        asker.ask()
        asker.wait()
        return asker.silent()


def _anew(name: str, asked: Question) -> _Call:
    """Over a connection of its own. Whether one can be had is seen when the answer is."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    call = _Call(name, asked, connection)
    with contextlib.suppress(OSError):  # refused, no such name: then sending tells it again
        connection.connect_ex((asked.host, asked.port))
        _send(call)  # between namespaces of one host it stands as soon as it is begun
    return call


def _send(call: _Call) -> None:
    """Raises BlockingIOError while the connection does not stand, OSError where none will."""
    if not call.is_sent:
        call.connection.send(call.asked.words)
        call.is_sent = True


def _readable(connections: Iterable[socket.socket]) -> set[int]:
    """Descriptors of those that have something to be read, their end included: one question for
    all, of which the answer is nearly always that there is none."""
    look = select.poll()
    for each in connections:
        look.register(each, select.POLLIN)
    return {descriptor for descriptor, _ in look.poll(0)}


def _empty(connection: socket.socket) -> None:
    """Takes away what was left of an answer. Raises OSError if the other end has closed."""
    with contextlib.suppress(BlockingIOError):
        while connection.recv(READ_BYTES):
            pass
        raise ConnectionResetError
