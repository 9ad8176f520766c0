"""Waiting for Redis: a bound in time that a process without a processor does not hold against it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

SLICES: Final = 5  # parts of a timeout, of which each has to pass

_Result = TypeVar("_Result")


async def within(seconds: float, work: Coroutine[Any, Any, _Result]) -> _Result:
    """What ``work`` returns, within ``seconds`` in which this thread could have read it.

    A process that gets no processor for a while finds all its timers due and the answer unread: holding that time
    against Redis would have it go on alone beside workers that Redis serves. So the time passes in parts, and a part
    during which everything stood still is only one of them.

    Raises:
        TimeoutError: there was no answer.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(SLICES):
            done, _ = await asyncio.wait((task,), timeout=seconds / SLICES)
            if done:
                return task.result()
        raise TimeoutError
    finally:
        task.cancel()


async def end_tasks(timeout: float) -> None:
    """Cancel what still runs in this loop, and wait, at most ``timeout`` seconds, until it has ended.

    A coroutine that outlives its loop would be ended by a garbage collection, in any thread and at any point.
    """
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=timeout)


def run_to_end(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], closing: float) -> None:
    """Run ``work`` in a thread's own ``loop``, then end what is left in it, in ``closing`` seconds, and the loop."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(work)
    finally:
        loop.run_until_complete(end_tasks(closing))
        loop.close()
