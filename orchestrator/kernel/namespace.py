"""Resources: the directory of named namespaces, and a named network namespace."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from msgspec import Struct, field

from orchestrator import linux
from orchestrator.errors import ForeignError, ResourceError
from orchestrator.events import Outcome
from orchestrator.kernel import sysctl
from orchestrator.kernel.netlink import Netlink
from orchestrator.kernel.rtnetlink import set_link
from orchestrator.kernel.spare import Spare
from orchestrator.resource import Observation, State

ETC_NETNS = Path("/etc/netns")  # ip-netns(8): files bound over /etc by `ip netns exec`
LOOPBACK = 1  # lo is the first interface of every namespace

# Set in each namespace before anything is in it. Low ports are open so that no process
# needs a capability for them (Documentation/networking/ip-sysctl.rst); IPv6 is off because
# the network is IPv4 only and link-local addresses would be a second, unruled way around.
SETTINGS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv6.conf.default.disable_ipv6": "1",
}
_fresh = sysctl.Fresh()
_names = linux.OneFile()
_spare = Spare()


def _enter_new() -> None:
    """Puts the calling thread into a fresh namespace. Raises OSError."""
    if (made := _spare.take()) is None:
        linux.unshare_net()
        return
    try:
        linux.setns(made)
    finally:
        os.close(made)


def made_ahead(number: int) -> AbstractContextManager[None]:
    """For a block in which so many namespaces will be made."""
    return _spare.made(number)


def mount_points() -> set[str]:
    """Mount points of this mount namespace: proc_pid_mountinfo(5), field 5."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4].replace("\\040", " ") for line in lines}


class NamespaceDirectory(Struct, frozen=True):
    """/run/netns as ip-netns(8) makes it: a shared mount of itself, so that removing a name
    reaches every mount namespace. Taken away again if we made it and no name is left."""

    memory: Path

    @property
    def name(self) -> str:
        return "mount:netns"

    async def observe(self) -> Observation:
        if str(linux.NETNS_DIR) in mount_points():
            return Observation(State.PRESENT)
        return Observation(State.ABSENT)

    async def ensure(self) -> Outcome:
        if str(linux.NETNS_DIR) in mount_points():
            return Outcome.UNCHANGED
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        self.memory.touch()
        linux.NETNS_DIR.mkdir(mode=0o755, exist_ok=True)
        path = str(linux.NETNS_DIR)
        linux.mount(path, path, linux.MS_BIND | linux.MS_REC)
        linux.mount("", path, linux.MS_SHARED | linux.MS_REC)
        return Outcome.CHANGED

    async def remove(self) -> Outcome:
        if not self.memory.exists():
            return Outcome.UNCHANGED
        if any(linux.NETNS_DIR.iterdir()):
            return Outcome.UNCHANGED  # somebody else's names live there now
        with contextlib.suppress(OSError):
            linux.unmount(str(linux.NETNS_DIR))
        with contextlib.suppress(OSError):
            linux.NETNS_DIR.rmdir()
        self.memory.unlink()
        return Outcome.CHANGED


class Namespace(Struct, frozen=True):
    """A named network namespace with `lo` up, and its files for `ip netns exec`.

    It is ours if its `lo` carries the lab's group and mark, which are set before the name
    becomes visible. `files` are texts by name, bound over /etc/<name> by ip-netns(8).
    """

    name: str
    filename: str
    mark: str
    group: int
    files: dict[str, str]
    netlink: Netlink
    settings: Mapping[str, str] = field(default_factory=dict)  # sysctls, besides SETTINGS

    @property
    def path(self) -> Path:
        return linux.NETNS_DIR / self.filename

    @property
    def _etc(self) -> Path:
        return ETC_NETNS / self.filename

    async def observe(self) -> Observation:
        if not self.path.exists():
            if any(map(self._is_ours, self._etc_files)):
                return Observation(State.PARTIAL, f"{self.path} is missing")
            return Observation(State.ABSENT)
        if not linux.is_namespace(self.path):
            if self._is_ours(self.path):
                return Observation(State.PARTIAL, f"{self.path} is not mounted")
            return Observation(State.FOREIGN, f"{self.path} is somebody else's file")
        lo = self.netlink.links("lo", namespace=self.path).get("lo")
        if lo is None or lo.group != self.group:
            owner = (lo and lo.alias) or "somebody else"
            return Observation(State.FOREIGN, f"namespace {self.filename} belongs to {owner}")
        if not lo.up:
            return Observation(State.PARTIAL, "lo is down")
        for name, text in self.files.items():
            if self._read(self._etc / name) != self._with_mark(text):
                return Observation(State.PARTIAL, f"{self._etc / name} is not as wanted")
        return Observation(State.PRESENT)

    async def ensure(self) -> Outcome:
        seen = await self.observe()
        if seen.state is State.PRESENT:
            return Outcome.UNCHANGED
        if seen.state is State.FOREIGN:
            raise ForeignError(self.name, "ensure", seen.detail)
        if not linux.is_namespace(self.path):
            return await self.ensure_from_nothing()
        self._write_files()
        up = [set_link(LOOPBACK, up=True)]
        await self.netlink.apply(self.name, "ensure", up, self.path)
        return Outcome.CHANGED

    async def ensure_from_nothing(self) -> Outcome:
        self._write_files()
        self.make()
        return Outcome.CHANGED

    async def is_absent(self) -> bool:
        return not self.path.exists() and not any(map(self._is_ours, self._etc_files))

    @property
    def _etc_files(self) -> list[Path]:
        return [self._etc / name for name in self.files]

    async def remove(self) -> Outcome:
        seen = await self.observe()
        if seen.state is State.FOREIGN:
            return Outcome.UNCHANGED
        for name in self.files:
            if self._is_ours(self._etc / name):
                (self._etc / name).unlink()
        for directory in (self._etc, ETC_NETNS):
            with contextlib.suppress(OSError):
                directory.rmdir()
        if seen.state is State.ABSENT:
            return Outcome.UNCHANGED
        while linux.is_namespace(self.path):
            try:
                linux.unmount(str(self.path))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise ResourceError(self.name, "remove", str(error)) from error
                linux.unmount(str(self.path), lazily=True)
        self.path.unlink(missing_ok=True)
        return Outcome.CHANGED

    def make(self) -> None:
        """A fresh namespace, marked and set up, then named. The calling thread is in it
        meanwhile; a thread of its own would cost more than the half millisecond it takes."""
        here = linux.own_namespace()
        try:
            _enter_new()
            try:
                _fresh.write({**SETTINGS, **self.settings})
                up = set_link(LOOPBACK, up=True, group=self.group, alias=self.mark)
                self.netlink.apply_here(self.name, "ensure", [up])
                # The text tells a crash's left-over file from a foreign one.
                _names.appear(self.path, self._with_mark(""))
                source = f"/proc/self/task/{threading.get_native_id()}/ns/net"
                linux.mount(source, str(self.path), linux.MS_BIND)
            finally:
                linux.setns(here)
        except OSError as error:
            raise ResourceError(self.name, "ensure", str(error)) from error
        finally:
            os.close(here)

    def _with_mark(self, text: str) -> str:
        return f"# {self.mark}\n{text}"

    def _read(self, path: Path) -> str:
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError):
            return ""

    def _is_ours(self, path: Path) -> bool:
        return self._read(path).startswith(self._with_mark(""))

    def _write_files(self) -> None:
        for name, text in self.files.items():
            path = self._etc / name
            if path.exists() and not self._is_ours(path):
                raise ForeignError(self.name, "ensure", f"{path} is somebody else's file")
            linux.appear(path, self._with_mark(text))
