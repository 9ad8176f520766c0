"""Answers from the cache, over real HTTP: what the provider sees, what callers get, and what goes on record."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from dashboard_support import TOKEN, served
from litellm.integrations.custom_logger import CustomLogger
from openai import APIError
from ports import free_port
from proxy_support import RecordedLedger
from recording import RecordingBus
from redis_support import RedisServer
from support import assert_nothing_leaked, messages, quota, until

from wallie_litellm import build_router, execute_ai_request, stream_ai_request
from wallie_litellm.config import RouterConfig, parse_config
from wallie_litellm.events import Ended, Settled
from wallie_litellm.guard import Guard
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan, PlanStep
from wallie_litellm.simulator import SimulatedProvider

TAGS = {"metadata": {"feature": "faq"}}
PER_USER = {"metadata": {"feature": "mine"}}


@pytest.fixture(scope="module")
def providers() -> Iterator[dict[str, SimulatedProvider]]:
    with SimulatedProvider("openai") as openai, SimulatedProvider("anthropic") as anthropic:
        yield {"openai": openai, "anthropic": anthropic}


@pytest.fixture
def openai(providers: dict[str, SimulatedProvider]) -> SimulatedProvider:
    for provider in providers.values():
        provider.restore()
    return providers["openai"]


@pytest.fixture
def router(openai: SimulatedProvider, providers: dict[str, SimulatedProvider], bus: RecordingBus) -> Iterator[Any]:
    addresses = {name: {"api_base": one.api_base, "api_key": "sk-simulated"} for name, one in providers.items()}
    models = {"g": "openai/gpt-4o-mini", "e": "openai/text-embedding-3-small", "c": "anthropic/claude-sonnet-4-5"}
    models |= {"second": models["g"], "warm": models["g"]}
    config = parse_config(
        {
            "model_list": [
                {
                    "model_name": group,
                    "litellm_params": {
                        "model": model,
                        **addresses[model.partition("/")[0]],
                        **({"temperature": 0.7} if group == "warm" else {}),
                    },
                }
                for group, model in models.items()
            ],
            "router_settings": {"fallbacks": [{"g": ["second"]}]},
            "wallie": {
                "providers": {"openai": {"rpm": 500}},
                "features": {"faq": {"cache": {"ttl": "1h", "per": "all"}}, "mine": {"cache": "1h"}},
                "retry": {"max_retries": 0},
                "ledger": None,
            },
        }
    )
    router = build_router(config, guard=Guard(config.wallie, bus=bus))
    yield router
    assert_nothing_leaked(router)
    router.guard.close()


def config_of(openai: SimulatedProvider, **sections: Any) -> RouterConfig:
    """One group, ``g``."""
    params = {"model": "openai/gpt-4o-mini", "api_base": openai.api_base, "api_key": "sk-simulated"}
    return parse_config({"model_list": [{"model_name": "g", "litellm_params": params}], **sections})


def fetched(url: str) -> str:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return str(answer.read().decode())


def received(provider: SimulatedProvider) -> int:
    return provider.counts().received


async def chunks_of(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def test_the_same_question_a_hundred_times_is_one_call_and_every_request_is_on_record(
    router: Any, openai: SimulatedProvider, bus: RecordingBus
) -> None:
    results = [await execute_ai_request(router, "g", messages(), feature="faq") for _ in range(100)]
    assert received(openai) == 1
    assert {result.text for result in results} == {"Hello from openai."}
    assert quota(router, "openai", "rpm")["used"] == 1
    first, *others = results
    assert first.cost_usd is not None
    assert {(one.provider, one.model, one.cost_usd, one.used_fallback) for one in others} == {
        ("cache", "g", 0.0, False)
    }
    assert {one.deployment for one in results} == {"openai/gpt-4o-mini"}
    [settled], ended = bus.of(Settled), bus.of(Ended)
    assert [one.success for one in ended] == [True] * 100
    assert [one.settled for one in ended] == [(settled,), *[()] * 99]
    assert [one.cache_hit for one in ended] == [False, *[True] * 99]
    assert {(one.saved_usd, one.provider, one.used_fallback) for one in ended[1:]} == {(first.cost_usd, "", False)}
    assert {one.why for one in ended[1:]} == {("answer from the cache",)}
    figures = router.guard.status()["routing"]["cache"]
    assert (figures["hits"], figures["misses"], figures["kept"]) == (99, 1, 1)
    assert figures["saved_usd"] == pytest.approx(99 * first.cost_usd)
    assert router.guard.status()["budget"]["spent_usd"] == pytest.approx(first.cost_usd)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_question_a_hundred_times_at_once_is_one_call(
    router: Any, openai: SimulatedProvider, stream: bool
) -> None:
    async def ask() -> str:
        answer = await router.acompletion("g", messages(), stream=stream, **TAGS)
        return str(
            (litellm.stream_chunk_builder(await chunks_of(answer)) if stream else answer).choices[0].message.content
        )

    assert set(await asyncio.gather(*(ask() for _ in range(100)))) == {"Hello from openai."}
    assert received(openai) == 1
    assert router.guard.status()["routing"]["cache"]["joined"] == 99


async def test_a_stream_and_an_answer_in_one_piece_serve_each_other(router: Any, openai: SimulatedProvider) -> None:
    stream = stream_ai_request(router, "g", messages("streamed"), feature="faq")
    assert "".join([delta async for delta in stream]) == "Hello from openai."
    whole = await execute_ai_request(router, "g", messages("streamed"), feature="faq")
    assert (whole.text, whole.provider) == ("Hello from openai.", "cache")
    assert stream.result is not None
    assert whole.total_tokens == stream.result.total_tokens
    await execute_ai_request(router, "g", messages("whole"), feature="faq")
    again = stream_ai_request(router, "g", messages("whole"), feature="faq")
    assert "".join([delta async for delta in again]) == "Hello from openai."
    assert again.result is not None
    assert (again.result.provider, again.result.cost_usd) == ("cache", 0.0)
    assert again.result.total_tokens > 0
    assert received(openai) == 2


async def test_headers_say_that_the_answer_is_from_the_cache(router: Any) -> None:
    for stream in (False, True):
        await router.acompletion("g", messages(), **TAGS)
        answer = await router.acompletion("g", messages(), stream=stream, **TAGS)
        headers = answer._hidden_params["additional_headers"]
        assert headers["x-wallie-provider"] == "cache"
        assert headers["x-wallie-cost-usd"] == "0.00000000"
        assert headers["x-wallie-model-group"] == "g"


async def leave(stream: Any) -> None:
    await anext(stream)
    await stream.aclose()


async def drop(stream: Any) -> None:
    await anext(stream)


async def be_cancelled(stream: Any) -> None:
    task = asyncio.ensure_future(chunks_of(stream))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("end", [leave, drop, be_cancelled])
async def test_a_stream_that_is_not_read_to_its_end_is_not_kept(
    router: Any, openai: SimulatedProvider, end: Any
) -> None:
    await end(await router.acompletion("g", messages(), stream=True, **TAGS))
    gc.collect()
    await until(lambda: not router.guard.routing.answers._flights)
    answer = await router.acompletion("g", messages(), **TAGS)
    assert "cache_hit" not in answer._hidden_params
    assert received(openai) == 2


@pytest.mark.parametrize("fault", ["cut_stream", "fail", "truncate_stream"])
async def test_a_failed_request_leaves_nothing_in_the_cache(router: Any, openai: SimulatedProvider, fault: str) -> None:
    getattr(openai, fault)(times=1)
    tags = {"metadata": {"feature": "faq"}, "disable_fallbacks": True}
    with pytest.raises(APIError):
        await chunks_of(await router.acompletion("g", messages(), stream=True, **tags))
    await router.acompletion("g", messages(), **TAGS)
    assert router.guard.status()["routing"]["cache"]["hits"] == 0
    assert received(openai) == 2


async def test_a_fallbacks_answer_is_not_kept_for_the_group_that_was_asked(
    router: Any, openai: SimulatedProvider
) -> None:
    openai.fail(times=1)
    answers = [await execute_ai_request(router, "g", messages(), feature="faq") for _ in range(3)]
    assert [(one.model, one.provider) for one in answers] == [("second", "openai"), ("g", "openai"), ("g", "cache")]


async def test_requests_whose_common_call_fails_make_calls_of_their_own(router: Any, openai: SimulatedProvider) -> None:
    openai.fail(500, times=1)
    tags = {"metadata": {"feature": "faq"}, "disable_fallbacks": True}
    asked = [router.acompletion("g", messages(), **tags) for _ in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, Exception) for answer in answers) == 1
    assert received(openai) == 5


async def test_one_of_those_who_wait_asks_for_all_where_the_first_caller_leaves(
    router: Any, openai: SimulatedProvider
) -> None:
    openai.hang(times=1, seconds=60)
    first, *others = [asyncio.ensure_future(router.acompletion("g", messages(), **TAGS)) for _ in range(5)]
    await until(lambda: received(openai) == 1)
    first.cancel()
    assert all(answer.choices for answer in await asyncio.gather(*others))
    assert received(openai) == 2


async def test_a_request_waits_for_anothers_call_no_longer_than_its_deadline_and_max_wait(
    router: Any, openai: SimulatedProvider
) -> None:
    openai.hang(times=1, seconds=60)
    first = asyncio.ensure_future(router.acompletion("g", messages(), **TAGS))
    await until(lambda: received(openai) == 1)
    with pytest.raises(Exception, match="deadline"):
        await execute_ai_request(router, "g", messages(), feature="faq", deadline=0.05)
    assert received(openai) == 1
    first.cancel()
    await asyncio.wait([first])
    assert (await execute_ai_request(router, "g", messages(), feature="faq")).provider == "openai"


async def test_answers_go_from_user_to_user_only_where_the_file_says_so(router: Any, openai: SimulatedProvider) -> None:
    for user in ("u1", "u2"):
        for _ in range(2):
            await execute_ai_request(router, "g", messages(), feature="mine", user_id=user)
    assert received(openai) == 2
    for user in ("u1", "u2", None):
        await execute_ai_request(router, "g", messages(), feature="faq", user_id=user)
    assert received(openai) == 3


async def test_a_mocked_fault_is_not_answered_from_the_cache(router: Any) -> None:
    await router.acompletion("g", messages(), **TAGS)
    answer = await router.acompletion("g", messages(), mock_testing_fallbacks=True, **TAGS)
    assert answer._hidden_params["additional_headers"]["x-wallie-model-group"] == "second"


def first_by_latency(group: str) -> PlanStep:
    def put_first(plan: Plan, asked: Asked) -> Plan:
        return plan._replace(group=group, members=(Member(plan.group),), decided=Decided(order=plan.group))

    return put_first


async def test_another_member_that_its_latency_puts_first_is_asked_the_same_question(
    router: Any, openai: SimulatedProvider
) -> None:
    assert (await execute_ai_request(router, "g", messages(), feature="faq")).provider == "openai"
    router.guard.routing.steps = (first_by_latency("second"),)
    again = await execute_ai_request(router, "g", messages(), feature="faq")
    assert (again.provider, again.used_fallback) == ("cache", False)
    other = [await execute_ai_request(router, "g", messages("other"), feature="faq") for _ in range(2)]
    assert [(one.model, one.provider) for one in other] == [("second", "openai"), ("second", "cache")]
    assert received(openai) == 2


@pytest.mark.parametrize(("stated", "calls"), [({}, 2), ({"temperature": 0}, 1)])
async def test_an_answer_at_the_temperature_of_a_member_put_first_is_not_kept_unless_the_request_states_0(
    router: Any, openai: SimulatedProvider, stated: dict[str, Any], calls: int
) -> None:
    router.guard.routing.steps = (first_by_latency("warm"),)
    for _ in range(2):
        await execute_ai_request(router, "g", messages(), feature="faq", **stated)
    assert received(openai) == calls


async def test_the_answer_of_a_member_that_stands_in_for_a_while_is_not_kept(
    router: Any, openai: SimulatedProvider
) -> None:
    def stand_in(plan: Plan, asked: Asked) -> Plan:
        return plan.next_first("second first, as g has just come back")

    router.guard.routing.steps = (stand_in,)
    stood_in = await execute_ai_request(router, "g", messages(), feature="faq")
    router.guard.routing.steps = ()
    own = await execute_ai_request(router, "g", messages(), feature="faq")
    assert [(one.model, one.provider) for one in (stood_in, own)] == [("second", "openai"), ("g", "openai")]
    assert received(openai) == 2


async def test_features_without_a_cache_ask_every_time(router: Any, openai: SimulatedProvider) -> None:
    for _ in range(2):
        await router.acompletion("g", messages())
        await execute_ai_request(router, "g", messages(), feature="other")
    assert received(openai) == 4


async def test_the_cache_is_switched_off_and_on_at_run_time(router: Any, openai: SimulatedProvider) -> None:
    await router.acompletion("g", messages(), **TAGS)
    router.guard.switch("cache", on=False)
    await router.acompletion("g", messages(), **TAGS)
    router.guard.switch("cache", on=True)
    await router.acompletion("g", messages(), **TAGS)
    assert received(openai) == 2


async def test_other_wires_are_answered_from_the_cache_too(
    router: Any, openai: SimulatedProvider, providers: dict[str, SimulatedProvider]
) -> None:
    tags = {"litellm_metadata": {"feature": "faq"}}

    async def message(group: str, **more: Any) -> Any:
        return await router.aanthropic_messages(model=group, messages=messages(), max_tokens=50, **more, **tags)

    async def plain(make: Any) -> Any:
        answer = await make()
        return answer if isinstance(answer, dict) else answer.model_dump(warnings=False)

    for make in (
        lambda: message("c"),
        lambda: router.aembedding(model="e", input=["x"], **TAGS),
        lambda: router.aresponses(model="g", input="x", **tags),
        lambda: router.atext_completion(model="g", prompt="x", **TAGS),
    ):
        first, second = [await plain(make) for _ in range(2)]
        first.pop("_hidden_params", None)
        hidden = second.pop("_hidden_params", None)
        assert first["usage"] is not None
        assert {name: second[name] for name in ("id", "content", "output", "data", "choices") if name in second} == {
            name: first[name] for name in ("id", "content", "output", "data", "choices") if name in first
        }
        assert hidden is None or hidden["cache_hit"]
    events = [await chunks_of(await message("c", stream=True)) for _ in range(2)]
    assert events[0] == events[1]
    first, second = [await chunks_of(await router.aresponses(model="g", input="x", stream=True, **tags)) for _ in "12"]
    assert [type(event) for event in first] == [type(event) for event in second]
    assert second[-1].response.id == first[-1].response.id
    assert second[-1].response.usage.input_tokens == first[-1].response.usage.input_tokens
    assert (received(openai), received(providers["anthropic"])) == (4, 2)


def test_code_without_an_event_loop_has_the_same_answers(router: Any, openai: SimulatedProvider) -> None:
    for _ in range(2):
        assert router.completion("g", messages(), **TAGS).choices[0].message.content == "Hello from openai."
    for _ in range(2):
        stream = router.completion("g", messages(), stream=True, **TAGS)
        assert litellm.stream_chunk_builder(list(stream)).choices[0].message.content == "Hello from openai."
    stream = router.completion("g", messages("other"), stream=True, **TAGS)
    next(stream)
    stream.close()
    assert router.completion("g", messages("other"), **TAGS)._hidden_params.get("cache_hit") is None
    assert received(openai) == 3


class HitLogger(CustomLogger):
    """The successes that LiteLLM tells an application's callback, as (kind of call, hit, cost, tokens, group)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, ...]] = []

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        log = kwargs["standard_logging_object"]
        hit = kwargs.get("cache_hit") is True
        cost = log["response_cost"] if hit else None
        self.seen.append((log["call_type"], hit, cost, log["total_tokens"] > 0, log["model_group"]))

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.log_success_event(kwargs, response_obj, start_time, end_time)


async def test_litellms_callbacks_are_told_of_hits_as_of_those_of_its_own_cache(
    router: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = HitLogger()
    monkeypatch.setattr(litellm, "callbacks", [*litellm.callbacks, logger])
    tags = {"litellm_metadata": {"feature": "faq"}}

    async def streamed(call: Any) -> list[Any]:
        return await chunks_of(await call)

    calls = {
        "acompletion": lambda: router.acompletion("g", messages(), **TAGS),
        "aembedding": lambda: router.aembedding(model="e", input=["x"], **TAGS),
        "anthropic_messages": lambda: router.aanthropic_messages(model="c", messages=messages(), max_tokens=50, **tags),
        "aresponses": lambda: streamed(router.aresponses(model="g", input="x", stream=True, **tags)),
        "completion": lambda: asyncio.to_thread(router.completion, "g", messages(), **TAGS),
    }
    try:
        for name, call in calls.items():
            for _ in range(2):
                await call()
            hit = (name, True, 0.0, True, {"aembedding": "e", "anthropic_messages": "c"}.get(name, "g"))
            await until(lambda hit=hit: logger.seen.count(hit) >= 1)
        await streamed(router.acompletion("g", messages(), stream=True, **TAGS))
        await until(lambda: sum(one[:2] == ("acompletion", True) for one in logger.seen) == 2)
    finally:
        litellm.logging_callback_manager.remove_callback_from_all_lists(logger)


async def test_ledger_key_figures_page_and_status_agree_on_what_the_cache_answered(
    openai: SimulatedProvider, tmp_path: Path
) -> None:
    ledger = RecordedLedger(tmp_path / "wallie.db")
    wallie = {
        "features": {"faq": {"cache": "1h"}},
        "ledger": {"url": ledger.url},
        "telemetry": {"spool": str(tmp_path / "spool")},
    }
    async with build_router(config_of(openai, wallie=wallie)) as router:
        for _ in range(50):
            await execute_ai_request(router, "g", messages(), feature="faq", user_id="u1")
        asked = (execute_ai_request(router, "g", messages(), feature="faq", user_id="u1") for _ in range(50))
        await asyncio.gather(*asked)
        assert await router.guard.flush()
        [attempt], requests = ledger.select("wallie_attempts"), ledger.select("wallie_requests")
        with served(router.guard, [TOKEN]) as address:
            usage, kpis, page = await asyncio.to_thread(
                lambda: [fetched(address + path) for path in ("api/usage?range=1h&by=model", "api/kpis", "?range=1h")]
            )
        figures = router.guard.status()["routing"]["cache"]
    assert received(openai) == 1
    assert len(requests) == 100
    saved = sum(row["saved_usd"] or 0 for row in requests)
    assert sum(row["cache_hit"] for row in requests) == figures["hits"] == 99
    assert saved == pytest.approx(99 * attempt["cost_usd"]) == pytest.approx(figures["saved_usd"])
    [model] = json.loads(usage)["totals"]
    assert (model["attempts"], model["requests"], model["cost_usd"]) == (1, 100, attempt["cost_usd"])
    notes = {kpi["name"]: kpi["note"] for kpi in json.loads(kpis)["kpis"]}
    assert notes["p95_latency"].startswith("without the 99.0% of answers that the cache had")
    [shown] = re.findall(r'data-field="cache-saved" data-value="([^"]+)"', page)
    assert float(shown) == pytest.approx(saved)


async def test_a_redis_that_is_away_costs_no_answer(openai: SimulatedProvider) -> None:
    away = {"cache_params": {"type": "redis", "host": "127.0.0.1", "port": free_port()}}
    wallie = {"features": {"faq": {"cache": "1h"}}, "ledger": None, "store": {"timeout": "50ms"}}
    config = config_of(openai, litellm_settings=away, wallie=wallie)
    async with build_router(config) as router:
        for _ in range(3):
            assert (await router.acompletion("g", messages(), **TAGS)).choices
        assert router.guard.status()["routing"]["cache"]["state"] == "away"
        assert litellm.cache is None
    assert received(openai) == 3


async def test_processes_share_what_is_kept_in_redis_and_on_disk(openai: SimulatedProvider, tmp_path: Path) -> None:
    with RedisServer() as redis:
        for number, parameters in enumerate(
            (
                {"type": "redis", "host": "127.0.0.1", "port": redis.port},
                {"type": "disk", "disk_cache_dir": str(tmp_path / "answers")},
            )
        ):
            wallie = {"features": {"faq": {"cache": "1h"}}, "ledger": None, "store": {"timeout": "10s"}}
            config = config_of(openai, litellm_settings={"cache_params": parameters}, wallie=wallie)
            for provider in ("openai", "cache"):
                async with build_router(config) as router:  # one after the other, as two processes would
                    answer = await execute_ai_request(router, "g", messages(str(number)), feature="faq")
                    assert answer.provider == provider
        with redis.client() as client:
            text = client.get(client.keys("*")[0])
    assert received(openai) == 2
    for kept in (str(text), *(file.read_text() for file in (tmp_path / "answers").iterdir())):
        assert "Hello from openai." in kept
        assert "sk-simulated" not in kept
