"""The package's own settings, on a clock of the test's: outages that end, errors and pauses that do not."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from failover_rows import JITTER, MESSAGES, TEXT, Row, configuration
from fake_clock import FakeClock

from wallie_litellm import AIRequestResult, execute_ai_request

OUTAGE = 60.0  # seconds
EVERY = 4  # seconds from one request to the next
BACK_WITHIN = 30.0  # seconds after the outage
A_HANDFUL = 10  # calls to a provider that is down
STEP = 0.5  # seconds that the clock is advanced at once
RETRIES = (1 + 2 + 4) * JITTER  # seconds


class Time:
    """Lets seconds pass for a router, and its requests go on meanwhile."""

    def __init__(self, make_router: Any) -> None:
        self.clock = FakeClock()
        data = configuration(Row("defaults", lambda fleet: None))
        data["router_settings"]["timeout"] = 60
        self.router = make_router(clock=self.clock, data={**data, "wallie": {"ledger": None}})

    async def passes(self, seconds: float) -> None:
        await self._settle()
        for _ in range(round(seconds / STEP)):
            self.clock.advance(STEP)
            await self._settle()

    async def _settle(self) -> None:
        """Wait until every request has ended, or waits for the clock."""
        calm = 0
        while calm < 3:
            await asyncio.sleep(0.002)
            calm = 0 if any(one["in_flight"] for one in self.router.guard.status()["providers"].values()) else calm + 1

    def ask(self) -> asyncio.Task[tuple[AIRequestResult, float]]:
        """A request, with the seconds that it took."""
        return asyncio.create_task(self._ask(self.clock.now()))

    async def _ask(self, started: float) -> tuple[AIRequestResult, float]:
        result = await execute_ai_request(self.router, "chat", MESSAGES)
        assert result.text == TEXT
        return result, self.clock.now() - started

    async def ends(self, requests: list[asyncio.Task[tuple[AIRequestResult, float]]]) -> list[float]:
        """The seconds that each of ``requests`` took."""
        while not all(request.done() for request in requests):
            await self.passes(STEP)
        return [(await request)[1] for request in requests]


@pytest.fixture
def time(make_router: Any) -> Time:
    return Time(make_router)


def begin(fleet: Any, fault: str) -> None:
    if fault == "503":
        fleet["openai"].fail(503)
    elif fault == "429":
        fleet["openai"].rate_limit(None)
    else:
        getattr(fleet["openai"], fault)()


@pytest.mark.parametrize("fault", ["503", "refuse", "reset_connection", "429"])
async def test_a_minute_of_failures_is_survived_and_left_behind(time, fleet, fault):
    begin(fleet, fault)
    requests = []
    for _ in range(round(OUTAGE / EVERY)):
        requests.append(time.ask())
        await time.passes(EVERY)
    assert fleet["openai"].counts().received <= A_HANDFUL
    fleet["openai"].heal()
    for number in count(1):
        requests.append(time.ask())
        await time.passes(EVERY)
        if requests[-1].done() and requests[-1].result()[0].provider == "openai":
            break
        assert number * EVERY <= BACK_WITHIN
    assert max(await time.ends(requests)) <= RETRIES + STEP


@pytest.mark.parametrize(("fault", "calls", "seconds"), [("503", 5, RETRIES), ("429", 6, 3.0)])
async def test_failures_that_do_not_end_cost_two_requests_in_turn_a_few_seconds(time, fleet, fault, calls, seconds):
    begin(fleet, fault)
    for _ in range(2):
        assert max(await time.ends([time.ask()])) <= seconds + STEP
    assert fleet["openai"].counts().received <= calls
    assert fleet["anthropic"].counts().received == 2


@pytest.mark.parametrize(("fault", "calls", "seconds"), [("503", 8, 1 * JITTER), ("429", 24, 3.0)])
async def test_failures_that_do_not_end_cost_eight_requests_at_once_no_more(time, fleet, fault, calls, seconds):
    begin(fleet, fault)
    assert max(await time.ends([time.ask() for _ in range(8)])) <= seconds + STEP
    assert fleet["openai"].counts().received <= calls
    assert fleet["anthropic"].counts().received == 8
