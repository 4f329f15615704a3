"""Links that go in one turn of the loop go together; each asker has an answer of its own."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Sequence

import pytest

from orchestrator.errors import ResourceError, TransientError
from orchestrator.kernel.linkremoval import AT_ONCE, LinkRemoval
from orchestrator.kernel.rtnetlink import Link


def link(index: int) -> Link:
    return Link(index, f"veth{index}", "veth", "", 7, "", True, True, 0, 3, False, 0)


def blind(_: Sequence[Link], __: threading.Event) -> bool:
    """Sees nothing of what goes."""
    return False


class Kernel:
    """Remembers what was taken away together, and refuses some."""

    def __init__(self, refused: dict[int, int] | None = None) -> None:
        self.refused = refused or {}
        self.batches: list[list[int]] = []

    def __call__(self, links: Sequence[Link]) -> list[int]:
        self.batches.append([each.index for each in links])
        return [self.refused.get(each.index, 0) for each in links]


async def test_what_is_asked_in_one_turn_goes_together() -> None:
    kernel = Kernel()
    removal = LinkRemoval(kernel, blind)
    await asyncio.gather(*(removal.ask(f"veth:{number}", link(number)) for number in (1, 2, 3)))
    await removal.ask("veth:4", link(4))
    assert kernel.batches == [[1, 2, 3], [4]]


async def test_only_so_many_as_the_kernel_can_answer_for() -> None:
    kernel = Kernel()
    removal = LinkRemoval(kernel, blind)
    await asyncio.gather(*(removal.ask("veth", link(number)) for number in range(AT_ONCE + 1)))
    assert [len(batch) for batch in kernel.batches] == [AT_ONCE, 1]


async def test_each_hears_of_its_own_refusal() -> None:
    removal = LinkRemoval(Kernel({2: errno.EBUSY, 3: errno.EPERM}), blind)
    asked = (removal.ask(f"veth:{number}", link(number)) for number in (1, 2, 3))
    first, busy, refused = await asyncio.gather(*asked, return_exceptions=True)
    assert first is None
    assert isinstance(busy, TransientError)
    assert busy.resource == "veth:2"
    assert isinstance(refused, ResourceError)
    assert not isinstance(refused, TransientError)


async def test_all_hear_of_a_socket_that_cannot_be_had() -> None:
    def broken(links: Sequence[Link]) -> list[int]:
        raise OSError(errno.EMFILE, f"no descriptor for {len(links)}")

    removal = LinkRemoval(broken, blind)
    asked = (removal.ask(f"veth:{number}", link(number)) for number in (1, 2))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(each, ResourceError) for each in found] == [True, True]


async def test_who_was_cancelled_before_keeps_its_link() -> None:
    kernel = Kernel()
    removal = LinkRemoval(kernel, blind)
    first = asyncio.create_task(removal.ask("veth:1", link(1)))
    second = asyncio.create_task(removal.ask("veth:2", link(2)))
    await asyncio.sleep(0)
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert kernel.batches == [[2]]


@pytest.mark.parametrize(
    ("failure", "heard", "word"),
    [
        (TransientError("links", "list", "interrupted"), TransientError, "interrupted"),
        (RuntimeError("can't start new thread"), ResourceError, "new thread"),
    ],
    ids=["to be tried again", "of any kind"],
)
async def test_all_hear_of_a_failure_and_its_kind(
    failure: Exception, heard: type, word: str
) -> None:
    def broken(_: Sequence[Link]) -> list[int]:
        raise failure

    removal = LinkRemoval(broken, blind)
    asked = (removal.ask(f"veth:{number}", link(number)) for number in (1, 2))
    found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
    assert [type(each) for each in found] == [heard, heard]
    assert all(word in str(each) for each in found)


async def test_what_is_seen_to_be_gone_is_not_waited_for() -> None:
    is_freed = threading.Event()

    def slow(links: Sequence[Link]) -> list[int]:
        is_freed.wait(10)
        return [0 for _ in links]

    removal = LinkRemoval(slow, lambda _, __: True)
    try:
        await asyncio.wait_for(removal.ask("veth:1", link(1)), 5)
    finally:
        is_freed.set()


async def test_a_refusal_is_heard_while_somebody_watches() -> None:
    def watch(_: Sequence[Link], is_done: threading.Event) -> bool:
        assert is_done.wait(10)
        return False

    with pytest.raises(TransientError, match="veth:1"):
        await LinkRemoval(Kernel({1: errno.EBUSY}), watch).ask("veth:1", link(1))


async def test_who_cannot_watch_leaves_it_to_the_request() -> None:
    def broken(_: Sequence[Link], __: threading.Event) -> bool:
        raise OSError(errno.EMFILE, "no descriptor")

    kernel = Kernel()
    await LinkRemoval(kernel, broken).ask("veth:1", link(1))
    assert kernel.batches == [[1]]
