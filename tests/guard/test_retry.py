"""Retries: which errors, how long between them, and how many over a whole request."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import litellm
import openai
import pytest
from fake_clock import FakeClock
from support import messages, until

from wallie_litellm import DeadlineExceeded, execute_ai_request
from wallie_litellm.core.backoff import Backoff


class RecordedBackoff(Backoff):
    """Records the real waits, and sleeps through none of them."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def seconds(self, retry):
        self.waits.append(super().seconds(retry))
        return 0.0


@pytest.fixture
def recorded(make_router):
    router = make_router()
    router.guard.backoff = RecordedBackoff()
    return router


def near(expected):
    return pytest.approx(expected, rel=0.25)


async def test_one_500_is_retried_once_after_a_second(recorded, fleet):
    fleet["openai"].fail(500, times=1)
    result = await execute_ai_request(recorded, "gpt-4o-mini", messages())
    assert [attempt.provider for attempt in result.attempts] == ["openai", "openai"]
    assert [near(1)] == recorded.guard.backoff.waits
    assert not result.used_fallback


async def test_four_500s_wait_1_2_and_4_seconds_and_then_fall_back_without_waiting(recorded, fleet):
    fleet["openai"].fail(500)
    result = await execute_ai_request(recorded, "gpt-4o-mini", messages())
    assert [attempt.provider for attempt in result.attempts] == ["openai"] * 4 + ["anthropic"]
    assert [near(1), near(2), near(4)] == recorded.guard.backoff.waits


async def test_the_retries_of_a_request_are_shared_by_its_chain(recorded, fleet):
    for provider in ("openai", "anthropic", "gemini"):
        fleet[provider].fail(500)
    result = await execute_ai_request(recorded, "gpt-4o-mini", messages())
    assert [attempt.provider for attempt in result.attempts] == ["openai"] * 4 + ["anthropic", "gemini", "groq"]


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
async def test_transient_errors_are_retried(recorded, fleet, status):
    fleet["groq"].fail(status, times=1)
    await recorded.acompletion("llama-3.1-8b", messages())
    assert fleet["groq"].counts().received == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_lasting_errors_are_not_retried(recorded, fleet, status):
    fleet["groq"].fail(status)
    with pytest.raises(openai.APIError):
        await recorded.acompletion("llama-3.1-8b", messages())
    assert fleet["groq"].counts().received == 1


@pytest.mark.parametrize("asked", [{}, {"num_retries": 0}, {"num_retries": 9}])
async def test_a_request_may_ask_for_fewer_retries_but_not_for_more(make_router, fleet, asked):
    router = make_router(retry={"max_retries": 1, "initial": "1ms"})
    fleet["groq"].fail(500)
    with pytest.raises(litellm.InternalServerError):
        await router.acompletion("llama-3.1-8b", messages(), **asked)
    assert fleet["groq"].counts().received == (1 if asked.get("num_retries") == 0 else 2)


async def test_an_open_breaker_ends_the_retries(make_router, fleet):
    router = make_router(breaker={"failures": 2}, retry={"initial": "1ms"})
    fleet["openai"].fail(500)
    result = await execute_ai_request(router, "gpt-4o-mini", messages())
    assert [attempt.provider for attempt in result.attempts] == ["openai", "openai", "anthropic"]


async def test_a_429_pauses_its_model_for_every_request_and_its_own_waits_it_out(make_router, fleet):
    clock = FakeClock()
    router = make_router(clock=clock)
    fleet["openai"].rate_limit(2, times=1)
    first = asyncio.create_task(execute_ai_request(router, "gpt-4o-mini", messages()))
    await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 1)
    second = asyncio.create_task(execute_ai_request(router, "gpt-4o-mini", messages()))
    await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 2)
    assert fleet["openai"].counts().received == 1
    assert (await execute_ai_request(router, "gpt-4o", messages())).provider == "openai"
    clock.advance(2)
    assert {"openai"} == {result.provider for result in await asyncio.gather(first, second)}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_retry_after_of_two_minutes_is_honoured_by_falling_back(make_router, fleet, status, form):
    clock = FakeClock()
    router = make_router(clock=clock)
    when = datetime.now(UTC) + timedelta(seconds=121)
    fleet["openai"].fail(status, times=1, retry_after=120 if form == "seconds" else format_datetime(when, usegmt=True))
    results = [await execute_ai_request(router, "gpt-4o-mini", messages()) for _ in range(3)]
    assert {"anthropic"} == {result.provider for result in results}
    models = router.guard.status()["providers"]["openai"]["models"]
    assert {model: one["paused_for"] for model, one in models.items()} == {"gpt-4o-mini": pytest.approx(120, abs=2)}
    assert fleet["openai"].counts().received == 1
    clock.advance(122)
    assert (await execute_ai_request(router, "gpt-4o-mini", messages())).provider == "openai"


async def test_a_429_without_a_retry_after_pauses_longer_each_time(make_router, fleet):
    clock = FakeClock()
    router = make_router(clock=clock, retry={"max_retries": 0})
    fleet["groq"].rate_limit(None)
    for expected in (1, 2, 4):
        with pytest.raises(litellm.RateLimitError):
            await router.acompletion("llama-3.1-8b", messages())
        ((model, found),) = router.guard.status()["providers"]["groq"]["models"].items()
        paused = found["paused_for"]
        assert (model, near(expected)) == ("openai/gpt-oss-20b", paused)
        clock.advance(paused)


async def test_a_retry_that_would_miss_the_deadline_is_not_waited_for(make_router, fleet):
    router = make_router()
    fleet["openai"].fail(500)
    result = await execute_ai_request(router, "gpt-4o-mini", messages(), deadline=0.7)
    assert [attempt.provider for attempt in result.attempts] == ["openai", "anthropic"]


async def test_a_hanging_provider_ends_with_the_deadline(make_router, fleet):
    router = make_router()
    fleet["openai"].hang()
    with pytest.raises(DeadlineExceeded) as caught:
        await execute_ai_request(router, "gpt-4o-mini", messages(), deadline=0.3)
    assert isinstance(caught.value, TimeoutError)
    assert router.guard.status()["providers"]["openai"]["in_flight"] == 0


@pytest.mark.parametrize("sync", [False, True])
async def test_no_client_library_retries_an_embedding_by_itself(recorded, fleet, sync):
    fleet["openai"].fail(500)
    asked = ("text-embedding-3-small", ["some text"])
    with pytest.raises(litellm.InternalServerError):
        await (asyncio.to_thread(recorded.embedding, *asked) if sync else recorded.aembedding(*asked))
    assert fleet["openai"].counts().received == 4
