"""Asks the lab's supervisor over its control socket.

By hand, since http.client takes longer to load than the supervisor to answer: a GET in HTTP/1.0,
whose answers end with their connection; a POST in HTTP/1.1, which tells when it is heard.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from orchestrator.lab import Lab

TIMEOUT_S = 10.0
CONTINUE, OK, CONFLICT = 100, 200, 409  # RFC 9110, 15


def get(lab: Lab, path: str, *, timeout_s: float = TIMEOUT_S) -> tuple[int, Any]:
    """The status and the JSON of the answer. Raises OSError, ValueError."""
    with _connected(lab, timeout_s) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n".encode())
        answer = bytearray()
        while data := connection.recv(1 << 16):
            answer += data
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2:
        raise ValueError("it broke off")
    return int(words[1]), json.loads(body)


def post(
    lab: Lab, path: str, wishes: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S
) -> Iterator[str] | None:
    """The lines of the answer as they come; None if it refuses.

    The wishes are told once it listens (RFC 9110, 10.1.1): what a supervisor that hangs was not
    told, it does not do when it wakes. Raises OSError, ValueError; the lines too, if they break
    off.
    """
    body = json.dumps(wishes).encode()
    connection = _connected(lab, timeout_s)
    answer = connection.makefile("rb")
    try:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        status = _status(answer)
        if status == CONTINUE:
            connection.settimeout(None)
            connection.sendall(body)
            status = _status(answer)
    except BaseException:
        answer.close()
        raise
    finally:
        connection.close()  # the answer holds it
    if status != OK:
        answer.close()
        return None
    return _lines(answer)


def _status(answer: BinaryIO) -> int:
    """Of the head that comes next."""
    words = answer.readline().split()
    while answer.readline().strip():
        pass
    return int(words[1]) if len(words) > 1 else 0


def _lines(answer: BinaryIO) -> Iterator[str]:
    """Of a body in chunks: RFC 9112, 7.1."""
    rest = b""
    with answer:
        while size := int(answer.readline(), 16):
            *whole, rest = (rest + answer.read(size)).split(b"\n")
            answer.readline()
            yield from map(bytes.decode, whole)


def _connected(lab: Lab, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout_s)
        directory = os.open(lab.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By descriptor, since an address holds no more than 107 bytes: unix(7).
            connection.connect(f"/proc/self/fd/{directory}/control.sock")
        finally:
            os.close(directory)
    except BaseException:
        connection.close()
        raise
    return connection
