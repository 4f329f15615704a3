"""Opens files that must be files: a pipe would wait for its writer, a device never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """For reading bytes; links are followed. Raises OSError, EINVAL for what is no file."""
    # A FIFO opens at once without a writer: fifo(7). On a file the flag means nothing.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    raise OSError(errno.EINVAL, "Is no regular file", str(path))


def read_text(path: Path, *, limit: int) -> str:
    """As UTF-8, so many bytes of it at most. Raises OSError, UnicodeDecodeError."""
    with open_regular(path) as file:
        return file.read(limit).decode("utf-8")
