"""Resource: a kernel setting that belongs to the host, set for the lab and put back after.

The value found is remembered in a file under /run, which forgets with the kernel at a reboot.
Several labs may want the same setting: each leaves its name, the last one puts it back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import ResourceError
from orchestrator.events import Noticed, Outcome
from orchestrator.linux import appear, open_proc
from orchestrator.resource import Emit, Observation, State

PROC_SYS = Path("/proc/sys")
VALUE_BYTES = 4096  # no setting of ours is longer
SHARED, OWN = 32, 64  # namespaces that are set up through /proc, and through one of our own


def path_of(key: str) -> Path:
    """`net.ipv4.ip_forward` as a file: sysctl(8)."""
    return PROC_SYS / key.replace(".", "/")


def read(key: str) -> str | None:
    """The setting now; None if this kernel does not have it, or its link goes at this moment."""
    with suppress(FileNotFoundError):
        # Asked every second for ever: without pathlib and Python's own files it takes a fifth.
        file = os.open(f"{PROC_SYS}/{key.replace('.', '/')}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, VALUE_BYTES).decode().strip()
        finally:
            os.close(file)
    return None


class Kept:
    """Settings that are read each second for ever: files that stay open are read in a tenth of
    the time. Of the network namespace in which each was read first."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def read(self, key: str) -> str | None:
        """As the function `read`."""
        if (known := self._files.get(key)) is not None:
            with suppress(OSError):
                return os.pread(known, VALUE_BYTES, 0).decode().strip()
            os.close(self._files.pop(key))  # its link is gone; there may be another of its name
        with suppress(FileNotFoundError):
            file = os.open(f"{PROC_SYS}/{key.replace('.', '/')}", os.O_RDONLY | os.O_CLOEXEC)
            self._files[key] = file
            return os.pread(file, VALUE_BYTES, 0).decode().strip()
        return None


def write(key: str, value: str) -> None:
    """Sets it. Raises OSError."""
    _put(os.open(path_of(key), os.O_WRONLY | os.O_CLOEXEC), value)


def _put(setting: int, value: str) -> None:
    try:
        os.write(setting, value.encode())
    finally:
        os.close(setting)


class Fresh:
    """Settings of namespaces that were made just now, one after the other.

    Every namespace has a directory `net/ipv4` of its own in /proc/sys, and for a new one the
    kernel goes through those of all others that anybody has looked into: with 900 of them each
    setting takes ten times as long. So many are set up through a /proc that has seen few.
    """

    def __init__(self, mount: Callable[[], int] = open_proc) -> None:
        self._mount = mount
        self._left = SHARED
        self._own: int | None = None

    def write(self, settings: Mapping[str, str]) -> None:
        """Of the calling thread's namespace; those that this kernel does not have are left out.
        Raises OSError."""
        if not self._left:
            self.close()
            with suppress(OSError):  # not allowed here: slower
                self._own = self._mount()
            self._left = OWN
        self._left -= 1
        for key, value in settings.items():
            with suppress(FileNotFoundError):
                if self._own is None:
                    write(key, value)
                else:
                    name = f"sys/{key.replace('.', '/')}"
                    _put(os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._own), value)

    def close(self) -> None:
        """To be used again all the same."""
        if self._own is not None:
            os.close(self._own)
            self._own = None


def no_ipv6(interface: str) -> None:
    """Switches IPv6 off for an interface of the host. Nothing where this kernel has none.

    From a directory that stays open: every namespace has an entry `ipv6` in /proc/sys/net, and
    the kernel goes through all of them to find the host's.
    """
    with suppress(FileNotFoundError):
        directory = _ipv6_conf(Path("/proc/self/ns/net").stat().st_ino)
        name = f"{interface}/disable_ipv6"
        _put(os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory), "1")


@cache
def _ipv6_conf(host: int) -> int:  # noqa: ARG001 - of one namespace only
    return os.open(path_of("net.ipv6.conf"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class Sysctl(Struct, frozen=True):
    """One setting of the lab's host.

    `memory` is the directory that remembers for this host; `needed_since` tells, in words,
    who else came to rely on the setting while we had it (then it stays), or nothing.
    """

    key: str
    value: str
    lab: str
    memory: Path
    bridges: Callable[[], set[str]]
    emit: Emit

    @property
    def name(self) -> str:
        return f"sysctl:{self.key.rpartition('.')[2]}"

    @property
    def _found(self) -> Path:
        return self.memory / self.key / "found"

    @property
    def _holder(self) -> Path:
        return self.memory / self.key / "holders" / self.lab

    async def observe(self) -> Observation:
        now = read(self.key)
        if now is None:
            return Observation(State.ABSENT, f"this kernel has no {self.key}")
        if self.is_wanted(now):
            return Observation(State.PRESENT)
        if self._holder.exists():
            return Observation(State.PARTIAL, f"{self.key} is {now}, wanted {self.value}")
        return Observation(State.ABSENT, f"{self.key} is {now}, not asked for by us")

    def is_wanted(self, now: str | None) -> bool:
        """Whether that value is as wanted, and known to be wanted by us. Asked every second."""
        holder = f"{self.memory}/{self.key}/holders/{self.lab}"
        return now == self.value and os.path.exists(holder)  # noqa: PTH110 - in a tenth

    async def ensure(self) -> Outcome:
        now = read(self.key)
        if now is None:
            raise ResourceError(self.name, "ensure", f"this kernel has no {self.key}")
        if self.is_wanted(now):
            return Outcome.UNCHANGED
        self._holder.parent.mkdir(parents=True, exist_ok=True)
        if not self._found.exists():
            # Whole before the setting is touched: a crash in between loses nothing.
            appear(self._found, "\n".join([now, *sorted(self.bridges())]) + "\n")
        self._holder.touch()
        if now != self.value:
            write(self.key, self.value)
        return Outcome.CHANGED

    async def rebuild(self) -> Outcome:
        """Sets it again; there is no need to be without it meanwhile."""
        await self.ensure()
        write(self.key, self.value)
        return Outcome.CHANGED

    async def remove(self) -> Outcome:
        if not self._holder.exists():
            return Outcome.UNCHANGED
        others = [other.name for other in self._holder.parent.iterdir() if other != self._holder]
        if not others and self._found.exists():
            found, *bridges_then = self._found.read_text().splitlines()
            if read(self.key) != found:
                came = self.bridges() - set(bridges_then)
                if came:
                    text = f"{self.key} stays {self.value}: {', '.join(sorted(came))} came up since"
                    self.emit(Noticed(self.name, text))
                else:
                    write(self.key, found)
            self._found.unlink()
        self._holder.unlink()
        if not others:
            self._holder.parent.rmdir()
            self._found.parent.rmdir()
        return Outcome.CHANGED
