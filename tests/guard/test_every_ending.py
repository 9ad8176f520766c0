"""Every way a request can end: one ``Settled`` event per attempt, one ``Ended`` event, and their fields."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import litellm
import pytest
from litellm.caching.caching import Cache
from support import assert_nothing_leaked, messages, until

from wallie_litellm import execute_ai_request, stream_ai_request
from wallie_litellm.events import Ended, Event, FellBack, Settled, Unpriced
from wallie_litellm.telemetry.bus import Bus

TAGS = {"feature": "wallie-chat", "user_id": "u1"}
METADATA = {"conversationId": "123", "hasRAG": True}


class Tape(Bus):
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


# The entry points of the router, each read to its end.


async def chat(router, group, **more):
    await router.acompletion(group, messages(), metadata={**TAGS, **METADATA}, **more)


async def chat_stream(router, group, **more):
    async for _ in await router.acompletion(group, messages(), stream=True, metadata={**TAGS, **METADATA}, **more):
        pass


async def sync_chat(router, group, **more):
    await asyncio.to_thread(router.completion, group, messages(), metadata={**TAGS, **METADATA}, **more)


async def sync_stream(router, group, **more):
    def read() -> None:
        for _ in router.completion(group, messages(), stream=True, metadata={**TAGS, **METADATA}, **more):
            pass

    await asyncio.to_thread(read)


async def responses(router, group, **more):
    await router.aresponses(model=group, input="Hello there", metadata={**TAGS, **METADATA}, **more)


async def responses_stream(router, group, **more):
    stream = await router.aresponses(
        model=group, input="Hello there", stream=True, metadata={**TAGS, **METADATA}, **more
    )
    async for _ in stream:
        pass


async def anthropic(router, group, **more):
    await router.aanthropic_messages(
        model=group, messages=messages(), max_tokens=100, litellm_metadata={**TAGS, **METADATA}, **more
    )


async def anthropic_stream(router, group, **more):
    stream = await router.aanthropic_messages(
        model=group, messages=messages(), max_tokens=100, stream=True, litellm_metadata={**TAGS, **METADATA}, **more
    )
    async for _ in stream:
        pass


async def helper(router, group, **more):
    await execute_ai_request(router, group, messages(), **TAGS, metadata=METADATA, **more)


async def helper_stream(router, group, **more):
    async with stream_ai_request(router, group, messages(), **TAGS, metadata=METADATA, **more) as stream:
        async for _ in stream:
            pass


WHOLE = (chat, sync_chat, responses, anthropic, helper)
STREAMS = (chat_stream, sync_stream, responses_stream, anthropic_stream, helper_stream)
ENTRY_POINTS = (*WHOLE, *STREAMS)
UNREPORTED = (chat_stream, sync_stream)  # without stream_options, the usage is not reported

EntryPoint = Callable[..., Awaitable[None]]
Fleet = Any


@dataclass(frozen=True)
class Case:
    """The behaviour of the providers, the results of the attempts, and the end of the request."""

    prepare: Callable[[Fleet], object]
    attempts: tuple[tuple[str, str, str | None], ...]  # provider, outcome, error
    error: str | None = None
    by_caller: bool = False
    entry_points: tuple[EntryPoint, ...] = ENTRY_POINTS
    group: str = "gpt-4o-mini"
    sections: tuple[tuple[str, Any], ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()


class _Anything(str):
    """Equal to every reason: LiteLLM words a broken connection in several ways."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)


ANYTHING = _Anything()
OK = ("openai", "success", None)
NEXT = ("anthropic", "success", None)
NO_RETRY = (("retry", {"max_retries": 0}),)
QUICK_RETRY = (("retry", {"max_retries": 1, "initial": "1ms", "max": "1ms"}),)

CASES = {
    "success": Case(lambda fleet: None, (OK,)),
    "retry": Case(
        lambda fleet: fleet["openai"].fail(500, times=1), (("openai", "rejected", "HTTP 500"), OK), sections=QUICK_RETRY
    ),
    "fallback": Case(
        lambda fleet: fleet["openai"].fail(500), (("openai", "rejected", "HTTP 500"), NEXT), sections=NO_RETRY
    ),
    "429": Case(
        lambda fleet: fleet["openai"].rate_limit(60), (("openai", "rejected", "HTTP 429"), NEXT), sections=NO_RETRY
    ),
    "refused connection": Case(
        lambda fleet: fleet["openai"].refuse(), (("openai", "not_sent", "connection refused"), NEXT), sections=NO_RETRY
    ),
    "timeout": Case(
        lambda fleet: fleet["openai"].hang(),
        (("openai", "cut", "timeout"), NEXT),
        sections=NO_RETRY,
        arguments=(("timeout", 0.3),),
    ),
    "malformed": Case(
        lambda fleet: fleet["openai"].malformed(),
        (("openai", "cut", "unreadable answer"), NEXT),
        sections=NO_RETRY,
        entry_points=WHOLE,
    ),
    "cut before the first chunk": Case(
        lambda fleet: fleet["openai"].cut_stream(0),
        (("openai", "cut", ANYTHING), NEXT),
        sections=NO_RETRY,
        entry_points=(chat_stream, sync_stream, anthropic_stream, helper_stream, responses_stream),
    ),
    "400": Case(
        lambda fleet: fleet["deepseek"].fail(400),
        (("deepseek", "rejected", "HTTP 400"),),
        "HTTP 400",
        True,
        group="deepseek-chat",
        entry_points=(chat, chat_stream, sync_chat, helper, helper_stream),
    ),
    "5xx alone": Case(
        lambda fleet: fleet["deepseek"].fail(503),
        (("deepseek", "rejected", "HTTP 503"),),
        "HTTP 503",
        group="deepseek-chat",
        sections=NO_RETRY,
        entry_points=(chat, chat_stream, sync_chat, helper, helper_stream),
    ),
}
TABLE = [(name, entry_point) for name, case in CASES.items() for entry_point in case.entry_points]


@pytest.fixture
def tape() -> Tape:
    return Tape()


def check_tags(event: Settled | Ended) -> None:
    assert (event.feature, event.user_id) == ("wallie-chat", "u1")
    assert dict(event.metadata) == METADATA


def check_books(tape: Tape, ended: Ended) -> None:
    """One record per attempt, in order, under the request's own number, with tags, tokens and cost."""
    settled = tape.of(Settled)
    assert list(ended.settled) == settled
    assert [record.number for record in settled] == list(range(1, len(settled) + 1))
    assert {record.request_id for record in settled} <= {ended.request_id}
    assert len({event.id for event in tape.events}) == len(tape.events)
    check_tags(ended)
    for record in settled:
        check_tags(record)
        assert record.total_tokens >= record.prompt_tokens + record.completion_tokens
        billed = record.outcome in ("success", "cut")
        assert (record.total_tokens > 0) == billed
        assert record.cost_usd is not None
        assert (record.cost_usd > 0) == billed, record
        assert not record.unpriced
        assert 0 < (record.first_token_ms or 0.1) <= record.latency_ms


@pytest.mark.parametrize(
    ("name", "entry_point"), TABLE, ids=[f"{name}-{entry_point.__name__}" for name, entry_point in TABLE]
)
async def test_one_record_per_attempt_and_one_end_per_request(make_router, fleet, tape, name, entry_point):
    case = CASES[name]
    router = make_router(bus=tape, **dict(case.sections))
    case.prepare(fleet)
    with contextlib.suppress(Exception):
        await entry_point(router, case.group, **dict(case.arguments))
    await until(lambda: tape.of(Ended))
    (ended,) = tape.of(Ended)
    seen = tuple((record.provider, record.outcome, record.error) for record in tape.of(Settled))
    assert seen == case.attempts
    assert (ended.success, ended.by_caller) == (case.error is None, case.by_caller)
    assert ended.error == case.error
    assert ended.provider == case.attempts[-1][0]
    assert ended.model == case.group
    served = tape.of(Settled)[-1]
    assert ended.used_fallback == (ended.success and served.model != case.group)
    assert len(tape.of(FellBack)) == sum(1 for one, other in itertools.pairwise(seen) if one[0] != other[0])
    assert ended.stream == (entry_point in STREAMS)
    assert (served.first_token_ms is not None) == (served.success and ended.stream)
    assert ended.latency_ms >= max(record.latency_ms for record in ended.settled)
    if entry_point not in UNREPORTED:
        assert not [record for record in tape.of(Settled) if record.success and record.estimated]
    check_books(tape, ended)
    assert_nothing_leaked(router)
    gc.collect()
    await asyncio.sleep(0.05)
    assert len(tape.of(Ended)) == 1


# Ends that the caller or the guard causes


async def break_off(stream) -> None:
    await anext(aiter(stream))
    await stream.aclose()


async def drop(stream) -> None:
    await anext(aiter(stream))


async def cancel(stream) -> None:
    iterator = aiter(stream)
    await anext(iterator)
    task = asyncio.create_task(anext(iterator))
    await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def open_chat(router):
    return await router.acompletion("gpt-4o-mini", messages(), stream=True, metadata={**TAGS, **METADATA})


async def open_responses(router):
    return await router.aresponses(model="gpt-4o-mini", input="Hello there", stream=True, metadata={**TAGS, **METADATA})


async def open_anthropic(router):
    return await router.aanthropic_messages(
        model="claude-sonnet-4",
        messages=messages(),
        max_tokens=100,
        stream=True,
        litellm_metadata={**TAGS, **METADATA},
    )


async def open_helper(router):
    return stream_ai_request(router, "gpt-4o-mini", messages(), **TAGS, metadata=METADATA)


@pytest.mark.parametrize("leave", [break_off, drop, cancel])
@pytest.mark.parametrize("opened", [open_chat, open_responses, open_anthropic, open_helper])
async def test_an_abandoned_stream_is_recorded_as_cut_by_its_caller(make_router, fleet, tape, opened, leave):
    router = make_router(bus=tape)
    for provider in ("openai", "anthropic"):
        fleet[provider].hang(after_chunks=2)
    stream = await opened(router)
    await leave(stream)
    del stream

    def over() -> bool:
        gc.collect()
        return bool(tape.of(Ended))

    await until(over)
    (ended,) = tape.of(Ended)
    (record,) = tape.of(Settled)
    assert (record.outcome, record.error) in (("cut", "abandoned"), ("cut", "cancelled"))
    assert record.estimated
    assert (ended.success, ended.by_caller, ended.error) == (False, True, record.error)
    check_books(tape, ended)
    assert_nothing_leaked(router)


async def test_a_cancelled_request_is_recorded_as_ended_by_its_caller(make_router, fleet, tape):
    router = make_router(bus=tape)
    fleet["openai"].hang()
    task = asyncio.create_task(chat(router, "gpt-4o-mini"))
    await until(lambda: fleet["openai"].counts().received == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (ended,) = tape.of(Ended)
    assert [(record.outcome, record.error) for record in ended.settled] == [("cut", "cancelled")]
    assert (ended.success, ended.by_caller, ended.error) == (False, True, "cancelled")
    check_books(tape, ended)


@pytest.mark.parametrize("entry_point", [chat_stream, sync_stream, helper_stream])
async def test_a_stream_cut_in_the_middle_is_recorded_as_cut(make_router, fleet, tape, entry_point):
    router = make_router(bus=tape, retry={"max_retries": 0})
    fleet["openai"].cut_stream(2)
    with contextlib.suppress(Exception):
        await entry_point(router, "gpt-4o-mini")
    await until(lambda: tape.of(Ended))
    (ended,) = tape.of(Ended)
    assert (ended.settled[0].provider, ended.settled[0].outcome) == ("openai", "cut")
    assert ended.settled[0].estimated
    check_books(tape, ended)


@pytest.mark.parametrize("entry_point", [chat, chat_stream, helper])
async def test_an_answer_from_the_cache_costs_nothing(make_router, tape, monkeypatch, entry_point):
    cache = Cache(type="local")
    monkeypatch.setattr(litellm, "cache", cache)
    router = make_router(bus=tape, arguments={"cache_responses": True})
    await entry_point(router, "gpt-4o-mini")
    await until(lambda: len(tape.of(Ended)) == 1)
    await until(lambda: bool(cache.cache.cache_dict))  # LiteLLM stores a streamed answer in a task of its own
    tape.events.clear()
    await entry_point(router, "gpt-4o-mini")
    await until(lambda: tape.of(Ended))
    (record,) = tape.of(Settled)
    assert (record.outcome, record.success, record.total_tokens, record.cost_usd) == ("cache_hit", True, 0, 0.0)
    assert (record.unpriced, record.first_token_ms) == (False, None)
    assert tape.of(Ended)[0].success


@pytest.mark.parametrize("entry_point", [chat, chat_stream, sync_chat, responses, anthropic, helper, helper_stream])
async def test_a_refusal_ends_a_request_without_an_attempt(make_router, tape, entry_point):
    router = make_router(bus=tape)
    router.guard.open_circuit("deepseek")
    with pytest.raises(Exception, match="circuit is open"):
        await entry_point(router, "deepseek-chat")
    (ended,) = tape.of(Ended)
    assert tape.of(Settled) == []
    assert (ended.success, ended.error, ended.status_code) == (False, "wallie_circuit_open", 503)
    assert (ended.provider, ended.by_caller) == ("deepseek", False)
    check_tags(ended)


async def test_a_request_that_no_member_of_its_chain_serves_is_recorded_with_every_attempt(make_router, tape):
    router = make_router(bus=tape)
    for provider in ("openai", "anthropic", "gemini", "groq"):
        router.guard.open_circuit(provider)
    with pytest.raises(Exception, match="No provider could serve"):
        await chat(router, "gpt-4o")
    (ended,) = tape.of(Ended)
    assert (ended.error, ended.status_code, ended.settled) == ("wallie_chain_exhausted", 503, ())
    fallbacks = [(fallback.from_model, fallback.to_model, fallback.from_provider) for fallback in tape.of(FellBack)]
    assert fallbacks == [
        ("gpt-4o", "claude-sonnet-4", "openai"),
        ("claude-sonnet-4", "gemini-2.0-flash-thinking", "anthropic"),
        ("gemini-2.0-flash-thinking", "llama-3.3-70b", "gemini"),
    ]


@pytest.mark.parametrize("entry_point", [helper, helper_stream])
async def test_a_request_whose_deadline_passes_is_recorded(make_router, fleet, tape, entry_point):
    router = make_router(bus=tape)
    fleet["openai"].hang()
    with pytest.raises(TimeoutError):
        await entry_point(router, "gpt-4o-mini", deadline=0.3)
    (ended,) = tape.of(Ended)
    assert (ended.error, ended.by_caller, len(ended.settled)) == ("wallie_deadline_exceeded", False, 1)
    check_books(tape, ended)


async def test_a_deadline_that_had_passed_before_the_request_is_recorded(make_router, tape):
    router = make_router(bus=tape)
    with pytest.raises(TimeoutError):
        await helper(router, "gpt-4o-mini", deadline=0.0)
    (ended,) = tape.of(Ended)
    assert (ended.error, ended.settled) == ("wallie_deadline_exceeded", ())


async def test_a_stream_without_usage_is_estimated_and_marked(make_router, fleet, tape):
    router = make_router(bus=tape)
    fleet["openai"].omit_usage()
    await helper_stream(router, "gpt-4o-mini")
    (record,) = tape.of(Settled)
    assert (record.success, record.estimated) == (True, True)
    assert record.cost_usd


async def test_embeddings_are_recorded(make_router, tape):
    router = make_router(bus=tape)
    await router.aembedding("text-embedding-3-small", input=["some text"], metadata={**TAGS, **METADATA})
    (record,) = tape.of(Settled)
    assert (record.operation, record.completion_tokens, record.estimated) == ("embedding", 0, False)
    check_books(tape, tape.of(Ended)[0])


async def test_an_applications_own_call_is_recorded(make_router, tape):
    router = make_router(bus=tape)

    async def call(target):
        return {"usage": {"prompt_tokens": 10, "completion_tokens": 5}, "choices": []}

    result = await execute_ai_request(router, "gpt-4o-mini", execute=call, **TAGS, metadata=METADATA)
    (record,) = tape.of(Settled)
    assert (record.operation, record.prompt_tokens, record.completion_tokens) == ("execute", 10, 5)
    assert result.cost_usd == record.cost_usd == pytest.approx(10 * 0.15e-6 + 5 * 0.6e-6)
    check_books(tape, tape.of(Ended)[0])


async def test_a_model_without_a_price_is_unpriced_and_announced_once(make_router, tape):
    router = make_router(bus=tape)
    model = "openai/our-own-model"
    entry = next(one for one in router.model_list if one["model_name"] == "gpt-4o-mini")
    router.upsert_deployment(
        litellm.types.router.Deployment(
            model_name="own", litellm_params={**entry["litellm_params"], "model": model}, model_info={"id": "own-1"}
        )
    )
    for _ in range(3):
        result = await execute_ai_request(router, "own", messages())
        assert result.cost_usd is None
    assert [(record.cost_usd, record.unpriced) for record in tape.of(Settled)] == [(None, True)] * 3
    (alert,) = tape.of(Unpriced)
    assert (alert.provider, alert.model, alert.deployment) == ("openai", "own", model)


@pytest.mark.parametrize("body", [{"error": {"message": "upstream overloaded", "code": 502}}, {"id": "x"}, [], "text"])
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "groq"])
async def test_an_answer_of_no_known_shape_is_the_providers_fault(make_router, fleet, tape, provider, body):
    router = make_router(bus=tape, retry={"max_retries": 0})
    fleet[provider].fail(200, body=body)
    group = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4", "gemini": "gemini-2.0-flash", "groq": "llama-3.1-8b"}
    with contextlib.suppress(Exception):
        await chat(router, group[provider])
    record = tape.of(Settled)[0]
    assert (record.provider, record.outcome, record.error) == (provider, "cut", "unreadable answer")
    assert not tape.of(Ended)[0].by_caller


async def test_calls_under_way_when_the_guard_closes_are_recorded(make_router, fleet, tape):
    router = make_router(bus=tape)
    fleet["openai"].slow(0.3)
    task = asyncio.create_task(chat(router, "gpt-4o-mini"))
    await until(lambda: fleet["openai"].counts().received == 1)
    closing = asyncio.create_task(router.guard.aclose())
    await task
    await closing
    assert [record.outcome for record in tape.of(Settled)] == ["success"]
