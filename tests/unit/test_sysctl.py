"""Settings of the kernel that are read again and again."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator import linux
from orchestrator.kernel import sysctl
from orchestrator.kernel.sysctl import OWN, SHARED, Fresh, Kept

KEY = "net.ipv4.conf.kept0.route_localnet"


def alone(function: Callable[[], None]) -> None:
    """In a network namespace of its own, which only that thread is in."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: (linux.unshare_net(), function())).result()


def ip(*words: str) -> None:
    """In the namespace of the calling thread."""
    path = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
    subprocess.run(["nsenter", f"--net={path}", "ip", *words], check=True)


def test_kept_setting_is_the_one_of_now_and_of_the_link_of_now() -> None:
    def work() -> None:
        kept = Kept()
        assert kept.read(KEY) is None
        for _ in range(2):
            ip("link", "add", "kept0", "type", "bridge")
            assert kept.read(KEY) == "0"
            sysctl.write(KEY, "1")
            assert kept.read(KEY) == "1"
            ip("link", "delete", "kept0")
            assert kept.read(KEY) is None

    alone(work)


@pytest.mark.parametrize("read", [sysctl.read, Kept().read], ids=["read", "kept"])
def test_setting_whose_link_goes_while_it_is_read_is_none(
    read: Callable[[str], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ = os.open

    def opened(path: str, flags: int) -> int:
        found = open_(path, flags)
        if "kept0" in path:
            ip("link", "delete", "kept0")
        return found

    def work() -> None:
        ip("link", "add", "kept0", "type", "bridge")
        monkeypatch.setattr(os, "open", opened)
        assert read(KEY) is None

    alone(work)


LOW, WANTED = "net.ipv4.ip_unprivileged_port_start", {"net.ipv4.ip_unprivileged_port_start": "7"}


def written_in_new_ones(fresh: Fresh, count: int) -> list[str | None]:
    """What the setting is in each of so many namespaces, after it was written there."""
    found = []

    def work() -> None:
        for _ in range(count):
            linux.unshare_net()
            assert sysctl.read(LOW) == "1024"
            fresh.write({"net.ipv4.no_such_setting": "1", **WANTED})
            found.append(sysctl.read(LOW))

    alone(work)
    return found


def test_fresh_settings_are_those_of_each_new_namespace() -> None:
    mounts = list[int]()

    def mount() -> int:
        mounts.append(linux.open_proc())
        return mounts[-1]

    fresh, count = Fresh(mount), SHARED + OWN + 1
    try:
        assert written_in_new_ones(fresh, count) == ["7"] * count
        assert len(mounts) == 2
    finally:
        fresh.close()


def test_fresh_settings_are_written_where_no_proc_may_be_mounted() -> None:
    def refuse() -> int:
        raise PermissionError

    count = SHARED + 2
    assert written_in_new_ones(Fresh(refuse), count) == ["7"] * count
