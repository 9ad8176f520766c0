"""A provider that answers in time is not taken for silent by an event loop that has no time to read it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest

from wallie_litellm import build_router, execute_ai_request
from wallie_litellm.config import parse_config
from wallie_litellm.guard.silence_bound import BUSY, SilenceBound

BOUND = 0.02  # seconds
TURNS = 4  # of the loop until an answer that has come is read


async def answer_that_has_come() -> str:
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return "answered"


def keep_busy(turns: int) -> None:
    """Make this turn of the loop and so many more last longer than a busy one."""
    loop = asyncio.get_running_loop()

    def turn(left: int) -> None:
        time.sleep(BOUND + BUSY * 1.2)
        if left:
            loop.call_soon(turn, left - 1)

    turn(turns)


async def wait_for_ever(busy_turns: int | None = None) -> str:
    if busy_turns is not None:
        keep_busy(busy_turns)
    await asyncio.Event().wait()
    return "never"


async def test_a_bound_passes_on_a_loop_that_has_time() -> None:
    bound = SilenceBound(BOUND)
    with pytest.raises(TimeoutError):
        async with bound:
            await wait_for_ever()
    assert bound.expired()
    assert bound.extended == 0


@pytest.mark.parametrize("turns", [0, TURNS])
async def test_a_busy_loop_reads_what_has_come(turns: int) -> None:
    bound = SilenceBound(BOUND)
    async with bound:
        keep_busy(turns)
        assert await answer_that_has_come() == "answered"
    assert not bound.expired()


async def test_a_bound_passes_once_a_loop_has_time_again() -> None:
    bound = SilenceBound(BOUND)
    with pytest.raises(TimeoutError):
        async with bound:
            await wait_for_ever(busy_turns=1)
    assert bound.extended > 0


async def test_an_error_and_a_cancellation_inside_are_passed_on_and_leave_no_timer() -> None:
    for kind in (ValueError, asyncio.CancelledError):
        with pytest.raises(kind):
            async with SilenceBound(BOUND):
                raise kind
    await asyncio.sleep(BOUND * 2)  # a timer that was left would cancel this


async def test_a_busy_process_does_not_open_the_breaker_of_a_provider_that_answers() -> None:
    entry = {"model_name": "m", "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "sk-x"}}
    settings = {"providers": {"openai": {"first_token": BOUND}}, "retry": {"max_retries": 0}, "ledger": None}
    router = build_router(parse_config({"model_list": [entry], "wallie": {**settings, "breaker": {"failures": 1}}}))

    async def busy(target: Any) -> str:
        keep_busy(TURNS)
        return await answer_that_has_come()

    async def silent(target: Any) -> str:
        return await wait_for_ever()

    try:
        answer = await execute_ai_request(router, "m", [], execute=busy, estimated_tokens=1)
        assert answer.data == "answered"
        with pytest.raises(openai.APITimeoutError):
            await execute_ai_request(router, "m", [], execute=silent, estimated_tokens=1)
    finally:
        await router.guard.aclose()
