"""The /etc of a lab's sandboxes: a directory with copies of what every program looks up, shared by
those in which the same is mounted.

As one mount: bubblewrap takes a third of a millisecond for each, reading the table of all mounts
anew, and twenty files took as long as all else of a sandbox.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

PLACE = "/etc"

# What the C library, TLS and interpreters look up. What else is in /etc tells of the host (units
# with passwords, other services' settings).
COPIED = (
    *("ld.so.cache", "ld.so.conf", "host.conf", "gai.conf", "resolv.conf"),
    *("protocols", "services", "mime.types", "localtime", "timezone", "ssl/openssl.cnf"),
    *("locale.alias", "os-release"),
)
BOUND = (  # directories, as they are
    *("/etc/alternatives", "/etc/ssl/certs", "/etc/ca-certificates/extracted"),
    *("/etc/pki/tls/certs", "/etc/perl", "/etc/fonts"),
)
# Where names are looked up. The host's may name services that no sandbox can ask (systemd, SSS,
# mDNS); setpriv(1), which takes each number for a name first, loaded their libraries every time.
NAMES = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n"
HOSTS = "/etc/hosts"
OWN = ("/etc/passwd", "/etc/group", HOSTS)  # each sandbox's


def furnish(
    directory: Path,
    *,
    host: Iterable[str] = (),
    files: Iterable[str] = (),
    directories: Iterable[str] = (),
) -> Path:
    """The /etc, in the directory, for a sandbox with these mounts (of the host's paths, of others'
    files and directories). It has a place for each: once it is mounted read-only, nobody can make
    one. Its copies are brought to what the host has now, and those who run see that too.
    Raises OSError.
    """
    are_files = {path: os.path.isfile(path) for path in (*BOUND, *host)}
    are_files |= dict.fromkeys(directories, False) | dict.fromkeys((*OWN, *files), True)
    inside = {os.path.normpath(path): is_file for path, is_file in are_files.items()}
    above = PLACE + "/"
    places = {
        path.removeprefix(above): is_file
        for path, is_file in sorted(inside.items())
        if path.startswith(above)
    }
    made = directory / hashlib.sha256(repr(places).encode()).hexdigest()[:16]
    _make(made)
    root = f"{made}/"
    for name, is_file in places.items():
        if not is_file:
            _make(made / name)
        elif not os.path.exists(root + name):
            _write(made / name, b"", 0o444)
    # To replace what is mounted over would end that mount wherever it is: rename(2), unlink(2).
    for name in COPIED:
        if name not in places:
            _copy(above + name, root + name)
    if "nsswitch.conf" not in places:
        _replace(root + "nsswitch.conf", NAMES.encode())
    return made


def _replace(path: str, content: bytes) -> None:
    """Unless that is what it has; whole at every instant."""
    with contextlib.suppress(FileNotFoundError):
        if Path(path).read_bytes() == content:
            return
    draft = Path(f"{path}.new")
    _write(draft, content, 0o444)
    draft.rename(path)


def _copy(path: str, copy: str) -> None:
    """Unless that was done since the file was changed; of none that there is none."""
    if not os.path.isfile(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)
        return
    seen = os.stat(path)
    with contextlib.suppress(FileNotFoundError):
        known = os.stat(copy)
        if (known.st_mtime_ns, known.st_size) == (seen.st_mtime_ns, seen.st_size):
            return
    draft = Path(f"{copy}.new")
    _write(draft, Path(path).read_bytes(), seen.st_mode & 0o444)
    os.utime(draft, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
    draft.rename(copy)  # whole at every instant


def _write(path: Path, content: bytes, mode: int) -> None:
    _make(path.parent)
    path.write_bytes(content)
    path.chmod(mode)


def _make(directory: Path) -> None:
    """It and those above it, open to all, whatever umask(2) we were started with."""
    if not os.path.isdir(directory):
        _make(directory.parent)
        directory.mkdir()
        directory.chmod(0o755)
