"""Liveness: the least that a program must do to prove that it is not hung.

Asked every second for ever, so it is made of a connection and a few bytes, without the
libraries that the readiness probes use, and without an event loop: all services are asked at
once, in one thread. The kernel alone accepts connections for a stopped program; only an answer,
or a connection that the program closed, shows that it runs. Each question is a connection of
its own: over one that is held open, a program that can accept no other would go on to answer.
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
READ_BYTES = 4096
UNDER_WAY = (0, errno.EINPROGRESS)


@dataclass(frozen=True, slots=True)
class Question:
    """Where to ask, and with what words."""

    host: str
    port: int
    words: bytes


def question(probe: Probe) -> Question | None:
    """The first words of the probe's protocol; None where there is nothing to say."""
    match probe:
        case HttpProbe(url=url):
            parts = urlsplit(url)
            head = (
                f"GET {parts.path} HTTP/1.1\r\nHost: {parts.hostname}\r\nConnection: close\r\n\r\n"
            )
            return Question(str(parts.hostname), parts.port or 80, head.encode())
        case RedisProbe(host=host, port=port):
            return Question(host, port, b"PING\r\n")  # +PONG, or -NOAUTH: it is alive
        case PostgresProbe(host=host, port=port):
            return Question(host, port, SSL_REQUEST)
        case _:
            return None


@dataclass(slots=True)
class _Call:
    name: str
    connection: socket.socket
    words: bytes
    is_sent: bool = False


def silent(
    questions: Mapping[str, Collection[Question]], *, patience_s: float = LIVENESS_TIMEOUT_S
) -> list[str]:
    """Asks everything at once; whose programs did not react in time. Blocks until then."""
    until_s = time.monotonic() + patience_s
    unanswered: set[str] = set()
    with contextlib.ExitStack() as opened:
        ready = opened.enter_context(select.epoll())
        calls: dict[int, _Call] = {}
        for name, asked in questions.items():
            for each in asked:
                call = _begin(name, each)
                if call is None:
                    unanswered.add(name)
                    continue
                opened.callback(call.connection.close)
                calls[call.connection.fileno()] = call
        for number, call in calls.items():
            ready.register(number, select.EPOLLIN if call.is_sent else select.EPOLLOUT)
        while calls and (left_s := until_s - time.monotonic()) > 0:
            for number, _ in ready.poll(left_s):
                reacted = _go_on(calls[number])
                if reacted is None:
                    ready.modify(number, select.EPOLLIN)
                    continue
                ready.unregister(number)
                if not reacted:
                    unanswered.add(calls[number].name)
                del calls[number]
        unanswered.update(call.name for call in calls.values())
    return [name for name in questions if name in unanswered]


def _begin(name: str, asked: Question) -> _Call | None:
    """None if it cannot even be begun."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    call = _Call(name, connection, asked.words)
    try:
        if connection.connect_ex((asked.host, asked.port)) in UNDER_WAY:
            # Between namespaces of one host a connection stands as soon as it is begun.
            connection.send(asked.words)
            call.is_sent = True
            return call
    except BlockingIOError:
        return call  # it does not stand yet
    except OSError:  # refused, or no such name
        pass
    connection.close()
    return None


def _go_on(call: _Call) -> bool | None:
    """Whether the program reacted; None while the question is only on its way."""
    if not call.is_sent:
        if call.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return False
        call.is_sent = True
        with contextlib.suppress(OSError):  # closed by the program: reading says so
            call.connection.send(call.words)
        return None
    # Nothing: it has no place for us, and says so by closing, perhaps in the middle of it all.
    with contextlib.suppress(OSError):
        call.connection.recv(READ_BYTES)
    return True
