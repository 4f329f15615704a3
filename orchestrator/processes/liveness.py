"""Liveness: the least that a program must do to prove that it is not hung.

Asked every second for ever, so it is made of a few bytes, without the libraries that the
readiness probes use, and without an event loop: all services are asked at once, in one thread.
The kernel alone accepts connections for a stopped program; only an answer, or a connection that
the program closed, shows that it runs. Connections are kept, which is four times cheaper; but
each in its turn is made anew, since a program that can accept no other would go on to answer.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.processes.probes import HttpProbe, PostgresProbe, Probe, RedisProbe

# A program that has nothing else to do answers in a millisecond. Late answers are no
# failures: whoever asks looks at what the program did meanwhile.
LIVENESS_TIMEOUT_S = 0.25

# PostgreSQL documentation, "Message Formats": SSLRequest; one byte, S or N, comes back.
SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])
READ_BYTES = 1 << 16
UNDER_WAY = (0, errno.EINPROGRESS)
MOST_ANSWER_S = 0.002
KEPT_ROUNDS = 10  # a connection serves for so many questions


@dataclass(frozen=True, slots=True)
class Question:
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


@dataclass(slots=True)
class _Call:
    name: str
    asked: Question
    connection: socket.socket
    is_sent: bool
    is_kept: bool = False


class Asker:
    """Asks the same questions again and again. For one thread at a time."""

    def __init__(self, questions: Mapping[str, Collection[Question]]) -> None:
        self._questions = [(name, each) for name, asked in questions.items() for each in asked]
        self._kept: dict[Question, socket.socket] = {}
        self._round = 0

    def close(self) -> None:
        """Leaves nothing open."""
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def renew(self, names: Collection[str]) -> None:
        """Asks these over a connection of its own the next time."""
        for name, asked in self._questions if names else ():
            if name in names and (connection := self._kept.pop(asked, None)) is not None:
                connection.close()

    def silent(self, *, patience_s: float = LIVENESS_TIMEOUT_S) -> list[str]:
        """Asks everything at once; whose programs did not react in time. Blocks until then."""
        until_s = time.monotonic() + patience_s
        unanswered: set[str] = set()
        self._round += 1
        calls: dict[int, _Call] = {}
        with select.epoll() as ready:

            def begin(call: _Call | None, name: str) -> None:
                if call is None:
                    unanswered.add(name)
                    return
                calls[call.connection.fileno()] = call
                event = select.EPOLLIN if call.is_sent else select.EPOLLOUT
                ready.register(call.connection, event)

            for number, (name, asked) in enumerate(self._questions):
                is_due = (self._round + number) % KEPT_ROUNDS == 0
                begin(self._again(name, asked, is_due=is_due) or _anew(name, asked), name)
            time.sleep(MOST_ANSWER_S)  # rather one wake-up for most of them than one for each
            while calls and (left_s := until_s - time.monotonic()) > 0:
                for number, _ in ready.poll(left_s):
                    call = calls[number]
                    if not call.is_sent and not _is_refused(call):
                        ready.modify(number, select.EPOLLIN)
                        continue
                    ready.unregister(number)
                    del calls[number]
                    if not call.is_sent:
                        unanswered.add(call.name)
                        call.connection.close()
                    elif not self._is_answered(call):
                        # Closed while it was kept: that says nothing of the program of now.
                        begin(_anew(call.name, call.asked), call.name)
        for call in calls.values():
            unanswered.add(call.name)
            call.connection.close()
        return [name for name in dict(self._questions) if name in unanswered]

    def _again(self, name: str, asked: Question, *, is_due: bool) -> _Call | None:
        """Over the connection of before; None if there is none to go on with."""
        connection = self._kept.pop(asked, None)
        if connection is None:
            return None
        try:
            if not is_due:
                _empty(connection)
                connection.send(asked.words)
                return _Call(name, asked, connection, is_sent=True, is_kept=True)
        except OSError:
            pass
        connection.close()
        return None

    def _is_answered(self, call: _Call) -> bool:
        """Whether what came proves the program alive. Keeps the connection, if it can be."""
        try:
            said = call.connection.recv(READ_BYTES)
        except OSError:
            said = b""
        if said and call.asked.is_repeatable:
            self._kept[call.asked] = call.connection
        else:
            call.connection.close()
        # Nothing: it has no place for us, and says so by closing, perhaps in the middle of it all.
        return bool(said) or not call.is_kept


def silent(questions: Mapping[str, Collection[Question]]) -> list[str]:
    """Once; see `Asker.silent`."""
    with contextlib.closing(Asker(questions)) as asker:
        return asker.silent()


def _anew(name: str, asked: Question) -> _Call | None:
    """None if it cannot even be begun."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if connection.connect_ex((asked.host, asked.port)) in UNDER_WAY:
            # Between namespaces of one host a connection stands as soon as it is begun.
            connection.send(asked.words)
            return _Call(name, asked, connection, is_sent=True)
    except BlockingIOError:
        return _Call(name, asked, connection, is_sent=False)  # it does not stand yet
    except OSError:  # refused, or no such name
        pass
    connection.close()
    return None


def _is_refused(call: _Call) -> bool:
    """Asks now that there is a connection, if there is one."""
    if call.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return True
    call.is_sent = True
    with contextlib.suppress(OSError):  # closed by the program: reading says so
        call.connection.send(call.asked.words)
    return False


def _empty(connection: socket.socket) -> None:
    """Takes away what was left of an answer. Raises OSError if the other end has closed."""
    with contextlib.suppress(BlockingIOError):
        while connection.recv(READ_BYTES):
            pass
        raise ConnectionResetError
