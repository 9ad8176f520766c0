"""An outage that ends: served throughout, with few calls to the provider meanwhile, and back soon after it."""

from __future__ import annotations

import asyncio
import time
from itertools import count

import pytest
from failover_rows import MESSAGES, TEXT, Row, configuration, fast_defaults

from wallie_litellm import execute_ai_request

SPEED = 20  # seconds of the outage in one second of the test
OUTAGE = 60.0
EVERY = 4.0
BACK_WITHIN = 30.0
SLACK = 8.0  # 0.4 s of the test
A_HANDFUL = 12


@pytest.mark.parametrize("fault", ["fail", "refuse", "reset_connection"])
async def test_a_minute_of_failures_is_survived_and_left_behind(make_router, fleet, fault):
    data = configuration(Row("outage", lambda fleet: None))
    router = make_router(data={**data, "wallie": fast_defaults({}, SPEED)})
    primary, started = fleet["openai"], time.monotonic()

    def passed() -> float:
        return (time.monotonic() - started) * SPEED

    asked: list[asyncio.Task[tuple[float, str]]] = []

    async def ask() -> tuple[float, str]:
        result = await execute_ai_request(router, "chat", MESSAGES)
        assert result.text == TEXT
        return passed(), result.provider

    primary.fail(503) if fault == "fail" else getattr(primary, fault)()
    for number in count():
        asked.append(asyncio.create_task(ask()))
        await asyncio.sleep(max(0.0, (number + 1) * EVERY - passed()) / SPEED)
        if passed() >= OUTAGE:
            break
    while_down = primary.counts().received
    primary.heal()
    healed = passed()
    for number in count(len(asked)):
        asked.append(asyncio.create_task(ask()))
        await asyncio.sleep(max(0.0, (number + 1) * EVERY - passed()) / SPEED)
        if asked[-1].done() and asked[-1].result()[1] == "openai":
            break
        assert passed() < healed + 2 * BACK_WITHIN
    assert passed() - healed <= BACK_WITHIN + SLACK
    assert while_down <= A_HANDFUL
    await asyncio.gather(*asked)
