"""Namespaces that a thread has made before they are wanted; pipes stand for them here."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator

import pytest

from orchestrator import linux
from orchestrator.kernel import spare
from orchestrator.kernel.spare import Spare


class Maker:
    """In place of the kernel: counts what is made, and may refuse."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.home: int | None = None
        self.is_home = True
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.error: OSError | None = None

    def unshare(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert self.goes_on.wait(10)
        if self.error:
            raise self.error
        assert self.is_home  # what is made elsewhere inherits that one's settings
        self.is_home = False

    def descriptor(self) -> int:
        found, other = os.pipe()
        os.close(other)
        if self.is_home:
            self.home = found
        else:
            self.made.append(found)
        return found

    def enter(self, descriptor: int) -> None:
        assert descriptor == self.home
        self.is_home = True


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Maker]:
    found = Maker()
    monkeypatch.setattr(linux, "unshare_net", found.unshare)
    monkeypatch.setattr(linux, "own_namespace", found.descriptor)
    monkeypatch.setattr(linux, "setns", found.enter)
    yield found
    assert not [each for each in (*found.made, found.home) if each and is_open(each)]


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def wait_for(maker: Maker, number: int) -> None:
    while len(maker.made) < number:
        threading.Event().wait(0.001)


def test_each_is_handed_out_once_and_what_is_left_over_is_closed(maker: Maker) -> None:
    kept = Spare()
    with kept.made(spare.AHEAD + 3):
        wait_for(maker, 2)
        first = kept.take()
        assert first == maker.made[0]
        assert first is not None
        assert is_open(first)
        os.close(first)
        second = kept.take()
        assert second == maker.made[1]
        assert second is not None
        os.close(second)
    assert kept.take() is None


def test_who_is_faster_than_the_thread_makes_it_and_the_thread_one_less(maker: Maker) -> None:
    kept = Spare()
    maker.goes_on.clear()
    with kept.made(4):
        assert kept.take() is None
        assert kept.take() is None
        maker.goes_on.set()
        for thread in threading.enumerate():
            if thread.name == "namespaces":
                thread.join(10)
        assert len(maker.made) == 2


def test_nobody_makes_any(maker: Maker) -> None:
    assert Spare().take() is None
    assert maker.made == []


def test_what_the_kernel_refuses_is_left_to_who_wants_it(maker: Maker) -> None:
    maker.error = OSError(errno.ENOSPC, "too many")
    kept = Spare()
    with kept.made(2):
        assert kept.take() is None
    assert maker.made == []


def test_where_no_thread_is_to_be_had_nobody_waits(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    kept = Spare()
    with kept.made(2):
        assert kept.take() is None
    assert maker.made == []
