"""Links of the host taken away together: the kernel waits for RCU once, not for each of them.

RTM_DELLINK takes one link away, or all of a group. So the links are put into a group of their
own first, one that nobody has, and back into theirs after: if they are still there, that is.
All of it is one batch, which the kernel carries out to its end however its sender ends, so no
crash leaves a link outside of its lab's group. What is to go is told by index and looked at just
before; others in the lab's group, or in anybody's, are not concerned.

The request returns when the kernel has freed the links. They are gone one wait for RCU before that:
out of every list, their names free, nothing of them in /proc or /sys, and nobody waits for more.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from orchestrator.errors import ResourceError
from orchestrator.kernel.channel import (
    acknowledgements,
    are_there,
    batch,
    dump,
    open_channel,
    refusal,
)
from orchestrator.kernel.rtnetlink import (
    RTM_GETLINK,
    Link,
    get_index,
    group_of,
    remove_group,
    remove_link,
    set_link,
)
from orchestrator.linux import in_thread

AT_ONCE = 64  # every request has an answer, and the kernel keeps only so many for us
OUTSIDE = 0x20000000  # no lab's group has this bit as its highest
LOOK_S = 0.001

T = TypeVar("T")
Act = Callable[[Sequence[Link]], list[int]]
Look = Callable[[Sequence[Link], threading.Event], bool]


class LinkRemoval:
    """Collects what is to go in one turn of the loop; `act` takes it away while `look` watches,
    each in a thread."""

    def __init__(self, act: Act | None = None, look: Look | None = None) -> None:
        self._act, self._look = act or take_away, look or are_gone
        self._asked: list[tuple[str, Link, asyncio.Future[None]]] = []
        self._tasks = set[asyncio.Task[Any]]()

    async def ask(self, resource: str, link: Link) -> None:
        """Returns when the link is gone. Raises TransientError, ResourceError."""
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()
        self._asked.append((resource, link, gone))
        if len(self._asked) == 1:
            self._started(self._take_away())
        await gone

    async def _take_away(self) -> None:
        asked, self._asked = self._asked, []
        wanted = [each for each in asked if not each[2].done()]  # the others were cancelled
        for start in range(0, len(wanted), AT_ONCE):
            part = wanted[start : start + AT_ONCE]
            codes, failure = list[int](), None
            try:
                codes = await self._gone([link for _, link, _ in part])
            except ResourceError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of any
                failure = ResourceError("links", "remove", str(error) or type(error).__name__)
            for number, (resource, link, gone) in enumerate(part):
                if gone.done():
                    continue
                if failure is not None:  # its kind says whether to try again
                    gone.set_exception(type(failure)(resource, "remove", failure.reason))
                elif code := codes[number]:
                    what = f"remove link {link.name}"
                    gone.set_exception(refusal(resource, "remove", what, code))
                else:
                    gone.set_result(None)

    async def _gone(self, links: Sequence[Link]) -> list[int]:
        """The errno of each; as soon as it is known, from whoever knows it first."""
        is_done = threading.Event()
        act = self._started(in_thread(self._act, links))
        look = self._started(in_thread(self._look, links, is_done))
        act.add_done_callback(lambda _: is_done.set())
        await asyncio.wait((act, look), return_when=asyncio.FIRST_COMPLETED)
        if act.done() or look.exception() or not look.result():
            return await act
        return [0 for _ in links]

    def _started(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that goes on when nobody waits for it any more."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: task.cancelled() or task.exception())
        return task


def are_gone(links: Sequence[Link], is_done: threading.Event) -> bool:
    """Whether none of them is there any more; returns when that is so, or with the event. For a
    thread: it waits. Raises ResourceError.

    To be asked for one link by its index the kernel takes the lock under which others are on
    their way out, so its answer comes when they are.
    """
    wanted = [get_index(link.index) for link in links]
    with open_channel("links", "remove", None) as channel:
        while not is_done.wait(LOOK_S):
            if not are_there(channel, wanted):
                return True
    return False


def take_away(links: Sequence[Link]) -> list[int]:
    """The errno of each, 0 where it is gone. For a thread: it waits. Raises ResourceError."""
    with open_channel("links", "remove", None) as channel:
        if len(links) == 1:
            channel.send(batch([remove_link(links[0].index)]))
            (code,) = acknowledgements(channel, 1)
            return [0 if code == errno.ENODEV else code]  # somebody else was faster
        used = {group_of(body) for body in dump(channel, RTM_GETLINK, "host")}
        group = next(each for each in iter(_any_group, None) if each not in used)
        requests = [set_link(link.index, group=group) for link in links]
        requests.append(remove_group(group))
        requests += [set_link(link.index, group=link.group) for link in links]
        channel.send(batch(requests))
        codes = acknowledgements(channel, len(requests))
    put, together, back = codes[: len(links)], codes[len(links)], codes[len(links) + 1 :]
    # What could be put back is still there.
    return [
        0 if code == errno.ENODEV else first or together or code or errno.EBUSY
        for first, code in zip(put, back, strict=True)
    ]


def _any_group() -> int:
    return OUTSIDE | secrets.randbelow(OUTSIDE)
