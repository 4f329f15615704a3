"""Questions that prove something: at once, each within a bound, told as answers come."""

from __future__ import annotations

import asyncio

import pytest
from virtualtime import VirtualLoop, run

from orchestrator.errors import ResourceError
from orchestrator.processes.probes import Answer
from orchestrator.proving import LIMIT_S, Finding, Question, Row, ask_all


async def never() -> Finding:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def at_once() -> Answer:
    return Answer(True, "it is there")


async def refused() -> Finding:
    raise ConnectionRefusedError(111, "Connection refused")


async def unknown() -> Finding:
    raise ResourceError("netns:a", "enter", "it is gone")


def asked(*questions: Question) -> tuple[float, list[Row]]:
    """How long it took, and the answers in the order in which they were shown."""
    rows: list[Row] = []

    async def work() -> float:
        await ask_all(questions, rows.append)
        return asyncio.get_running_loop().time()

    return run(work(), VirtualLoop()), rows


def test_silent_ones_are_waited_for_together_and_not_for_long() -> None:
    seconds, rows = asked(*(Question("ping", str(number), "ping", never) for number in range(50)))
    assert seconds == LIMIT_S
    assert [row.evidence for row in rows] == [f"no answer within {LIMIT_S:g} s"] * 50


def test_answer_is_shown_while_others_are_waited_for() -> None:
    shown: list[str] = []

    async def work() -> None:
        is_shown = asyncio.Event()

        async def sees_the_other() -> Finding:
            await is_shown.wait()
            return Finding(True, "the other was shown meanwhile")

        def show(row: Row) -> None:
            shown.append(f"{row.name}: {row.evidence}")
            is_shown.set()

        first = Question("check", "last", "curl", sees_the_other)
        await ask_all([first, Question("ping", "first", "ping", at_once)], show)

    run(work(), VirtualLoop())
    assert shown == ["first: it is there", "last: the other was shown meanwhile"]


def test_where_nobody_reads_on_no_other_is_asked() -> None:
    """As by `verify | head -1`: each answer that comes would be refused again."""
    ended: list[str] = []

    async def waits() -> Finding:
        try:
            return await never()
        finally:
            ended.append("asked no longer")

    def show(_: Row) -> None:
        raise BrokenPipeError

    async def work() -> float:
        questions = [Question("ping", str(number), "ping", at_once) for number in range(3)]
        with pytest.raises(BrokenPipeError):
            await ask_all([Question("check", "last", "curl", waits), *questions], show)
        return asyncio.get_running_loop().time()

    assert run(work(), VirtualLoop()) == 0
    assert ended == ["asked no longer"]


def test_what_goes_wrong_with_a_question_is_its_answer() -> None:
    _, rows = asked(Question("a", "b", "c", refused), Question("a", "d", "c", unknown))
    assert [(row.passed, row.evidence) for row in rows] == [
        (False, "Connection refused"),
        (False, "cannot enter netns:a: it is gone"),
    ]
