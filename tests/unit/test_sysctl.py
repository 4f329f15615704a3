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
from orchestrator.kernel.sysctl import Kept

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
