"""HTTP over the control socket by hand, since http.client takes longer to load than the
supervisor to answer: a GET in HTTP/1.0, whose answers end with their connection; a POST in
HTTP/1.1, which tells when it is heard. Light, as glance.py is.
"""

from __future__ import annotations

import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CONTINUE, OK = 100, 200  # RFC 9110, 15
RECEIVE_BYTES = 1 << 16


class Answer:
    """What comes back over a connection to the socket in that run directory. Raises OSError if
    there is none, or nothing comes within the time; ValueError if it breaks off."""

    def __init__(self, run_dir: str, timeout_s: float) -> None:
        kind = _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC
        self._connection = _socket.socket(_socket.AF_UNIX, kind)
        self._connection.settimeout(timeout_s)
        self._rest = b""
        try:
            directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # By descriptor, since an address holds no more than 107 bytes: unix(7).
                self._connection.connect(f"/proc/self/fd/{directory}/control.sock")
            finally:
                os.close(directory)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> None:
        """Asks."""
        self.tell(f"GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n".encode())

    def got(self) -> tuple[int, bytes]:
        """Status and body of what was asked by `get`."""
        while self._receive():
            pass
        self.close()
        head, _, body = self._rest.partition(b"\r\n\r\n")
        words = head.split(None, 2)
        if len(words) < 2:
            raise ValueError("it broke off")
        return int(words[1]), body

    def announce(self, path: str, size: int) -> None:
        """Says that so many bytes will be posted. They are told once it listens (RFC 9110,
        10.1.1): what a supervisor that hangs was not told, it does not do when it wakes."""
        self.tell(
            f"POST {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n"
            f"Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n".encode()
        )

    def is_heard(self) -> bool:
        """Whether what was announced is wanted. From then on the answer takes its time."""
        if self._status() != CONTINUE:
            self.close()
            return False
        self._connection.settimeout(None)
        return True

    def tell(self, body: bytes) -> None:
        """What was announced."""
        try:
            self._connection.sendall(body)
        except BaseException:
            self.close()
            raise

    def posted(self) -> Iterator[str] | None:
        """The lines of the answer to what was told, as they come; None if it refuses."""
        if self._status() != OK:
            self.close()
            return None
        return self._lines()

    def _status(self) -> int:
        """Of the head that comes next."""
        words = self._line().split()
        while self._line().strip():
            pass
        return int(words[1]) if len(words) > 1 else 0

    def _lines(self) -> Iterator[str]:
        """Of a body in chunks: RFC 9112, 7.1."""
        rest = b""
        try:
            while size := int(self._line(), 16):
                *whole, rest = (rest + self._take(size)).split(b"\n")
                self._line()
                yield from map(bytes.decode, whole)
        finally:
            self.close()

    def _line(self) -> bytes:
        """With its end, unless the connection ends before."""
        while (end := self._rest.find(b"\n")) < 0:
            if not self._receive():
                break
        return self._take(end + 1 if end >= 0 else len(self._rest))

    def _take(self, size: int) -> bytes:
        while len(self._rest) < size and self._receive():
            pass
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _receive(self) -> bool:
        """Whether more came."""
        try:
            data = self._connection.recv(RECEIVE_BYTES)
        except BaseException:
            self.close()
            raise
        self._rest += data
        return bool(data)
