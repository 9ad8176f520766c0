"""A coroutine that need not wait is run without an event loop; one that must is closed and refused."""

from __future__ import annotations

import asyncio

import pytest

from wallie_litellm.litellm_adapter.run_ready import NotReady, run_ready


async def test_the_result_of_a_coroutine_that_does_not_wait():
    async def inner() -> int:
        return 3

    async def outer() -> int:
        return await inner() + 1

    assert run_ready(outer()) == 4


def test_one_that_waits_is_closed_and_refused():
    closed = []

    async def waiting() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    with pytest.raises(NotReady):
        run_ready(waiting())
    assert closed == [True]


def test_one_that_needs_an_event_loop_is_refused():
    with pytest.raises(NotReady):
        run_ready(asyncio.sleep(1))


@pytest.mark.parametrize("error", [ValueError("wrong"), RuntimeError("another")])
def test_an_error_of_its_own_is_raised_as_it_is(error):
    async def failing() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run_ready(failing())
    assert raised.value is error
