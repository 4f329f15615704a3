"""Attempts of one step: exponential backoff with jitter, within the node's policy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.engine.plan import RetryPolicy
from orchestrator.errors import ForeignError, GateTimeoutError, HostError, ResourceError

Sleep = Callable[[float], Awaitable[None]]


def _worth_another(error: BaseException) -> bool:
    """What is foreign stays foreign, and a deadline that has passed has passed."""
    return isinstance(error, ResourceError | OSError) and not isinstance(
        error, ForeignError | GateTimeoutError | HostError
    )


async def attempts(
    once: Callable[[int], Awaitable[None]],
    *,
    policy: RetryPolicy,
    tell: Callable[[int, float, BaseException], None],
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Awaits `once(attempt)`, counted from 1, until it returns or the policy is used up.

    `tell(attempt, delay_s, error)` hears of each failure that another attempt follows.
    Raises the last attempt's error.
    """
    try:
        await once(1)  # nearly all need no other: the rest is only made where one does
    except Exception as error:
        if policy.attempts == 1 or not _worth_another(error):
            raise
        first = error
    else:
        return

    import tenacity  # only now: few runs need it

    def before_sleep(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        delay_s = state.next_action.sleep if state.next_action else 0.0
        if error is not None:
            tell(state.attempt_number, delay_s, error)

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(_worth_another),
        wait=tenacity.wait_exponential_jitter(
            multiplier=policy.backoff_s, max=policy.max_backoff_s, jitter=policy.backoff_s / 2
        ),
        stop=tenacity.stop_after_attempt(policy.attempts),
        before_sleep=before_sleep,
        sleep=sleep,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            if attempt.retry_state.attempt_number == 1:
                raise first
            await once(attempt.retry_state.attempt_number)
