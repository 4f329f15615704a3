"""The kernel's own word that something changed: links, addresses, routes, rules, names.

Says only that it is worth looking; what is wrong is found by observing, so nothing can be
missed by a message that was lost or misread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator.linux import inside, netns_device

# linux/rtnetlink.h, linux/netlink.h, linux/netfilter/nfnetlink.h
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE = 0x1, 0x10, 0x40
NETLINK_NETFILTER, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES = 12, 270, 1, 7
RECEIVE_BYTES = 1 << 16


class Monitor:
    """Calls `changed` whenever the kernel tells of a change on the host or in a namespace."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._sockets: dict[Path | None, list[socket.socket]] = {}
        self._mounts: tuple[int, select.epoll] | None = None
        self._names: tuple[Path, ...] = ()
        self._inodes: dict[Path, int] = {}

    def watch(self, namespaces: Iterable[Path]) -> None:
        """Watches the host, the mount table, and these namespaces from now on.

        To be called again when a namespace was made anew: its old socket hears nothing.
        """
        before, self._names = self._inodes, tuple(namespaces)
        self._inodes = self._now()
        for path in [path for path in self._sockets if path is not None]:
            if self._inodes.get(path, 0) != before.get(path):
                self._forget(path)
        for path, inode in self._inodes.items():
            if inode and path not in self._sockets:
                with contextlib.suppress(OSError):  # it went this moment, which is told of
                    self._open(path)
        if None not in self._sockets:
            self._open(None)
            self._open_mounts()

    def _open_mounts(self) -> None:
        # A change of the mount table is priority data of this file: proc_pid_mounts(5). It
        # is always readable, so the event loop watches an epoll that asks for no more.
        table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        changes = select.epoll()
        changes.register(table, select.EPOLLPRI)
        self._mounts = (table, changes)
        asyncio.get_running_loop().add_reader(changes, self._mounted, changes)

    def _forget(self, namespace: Path | None) -> None:
        for each in self._sockets.pop(namespace):
            asyncio.get_running_loop().remove_reader(each)
            each.close()

    def close(self) -> None:
        for namespace in list(self._sockets):
            self._forget(namespace)
        if self._mounts is not None:
            table, changes = self._mounts
            asyncio.get_running_loop().remove_reader(changes)
            changes.close()
            os.close(table)
            self._mounts = None

    def _open(self, namespace: Path | None) -> None:
        with inside(namespace):
            routes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            rules = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        routes.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE))
        rules.bind((0, 0))
        # The legacy variant of iptables tells nobody: then only the periodic look sees.
        with contextlib.suppress(OSError):
            rules.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        found = self._sockets[namespace] = [routes, rules]
        for each in found:
            each.setblocking(False)
            asyncio.get_running_loop().add_reader(each, self._received, each)

    def _received(self, channel: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    channel.recv(RECEIVE_BYTES)
                except BlockingIOError:
                    raise
                except OSError:
                    break  # ENOBUFS: messages were lost, all the more reason to look
        self._changed()

    def _mounted(self, changes: select.epoll) -> None:
        changes.poll(0)  # empty: looking whether it is readable has taken the event already
        # The table is the whole machine's: most changes of it are other people's.
        if self._now() != self._inodes:
            self._changed()

    def _now(self) -> dict[Path, int]:
        """Which namespace each name stands for now; 0 for a name that stands for none."""
        return {path: inode_of(path) for path in self._names}


def inode_of(path: Path) -> int:
    """Of the namespace that has this name; 0 if there is none."""
    try:
        seen = path.stat()
    except OSError:
        return 0
    return seen.st_ino if seen.st_dev == netns_device() else 0
