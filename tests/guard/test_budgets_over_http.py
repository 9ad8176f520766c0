"""Budgets over real HTTP: what is refused, what goes to the cheapest member, what counts, on every kind of call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import litellm
import openai
import pytest
from recording import RecordingBus
from support import assert_nothing_leaked, messages, until

from wallie_litellm import (
    BudgetExhausted,
    WallieRouter,
    execute_ai_request,
    execute_ai_request_sync,
    stream_ai_request,
)
from wallie_litellm.config import FeatureSettings
from wallie_litellm.config.budgets import FeatureBudget
from wallie_litellm.events import BudgetCrossed, Ended, Settled
from wallie_litellm.guard.context import Caller
from wallie_litellm.simulator import SimulatedProviders

Make = Callable[..., WallieRouter]
TAGS = {"feature": "chat"}
GROUP = "gpt-4o-mini"
LITTLE = 1e-9  # US dollars: one call exhausts it


async def chat(router: WallieRouter) -> None:
    await router.acompletion(GROUP, messages(), metadata=TAGS)


async def stream(router: WallieRouter) -> None:
    async for _ in await router.acompletion(GROUP, messages(), stream=True, metadata=TAGS):
        pass


async def responses(router: WallieRouter) -> None:
    await router.aresponses(model=GROUP, input="Hello", litellm_metadata=TAGS)


async def anthropic(router: WallieRouter) -> None:
    await router.aanthropic_messages(model=GROUP, messages=messages(), max_tokens=50, litellm_metadata=TAGS)


async def helper_stream(router: WallieRouter) -> None:
    async for _ in stream_ai_request(router, GROUP, messages(), **TAGS):
        pass


async def blocking(router: WallieRouter) -> None:
    await asyncio.to_thread(execute_ai_request_sync, router, GROUP, messages(), **TAGS)


async def own_call(router: WallieRouter) -> None:
    async def call(_: Any) -> Any:
        return {"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}

    await execute_ai_request(router, GROUP, execute=call, **TAGS)


async def batch(router: WallieRouter) -> None:
    (answer,) = await router.abatch_completion([GROUP], messages(), metadata=TAGS)
    if isinstance(answer, Exception):
        raise answer


def rows(router: WallieRouter) -> dict[tuple[str | None, str | None, str], dict[str, Any]]:
    return {(row["feature"], row["user"], row["window"]): row for row in router.guard.status()["budgets"]}


@pytest.mark.parametrize("way", [chat, stream, responses, anthropic, helper_stream, blocking, own_call, batch])
async def test_once_it_is_spent_every_kind_of_call_is_refused_before_a_call_is_made(
    make_router: Make, fleet: SimulatedProviders, way: Callable[[WallieRouter], Any]
) -> None:
    bus = RecordingBus()
    router = make_router(bus=bus, features={"chat": {"budget": {"daily_usd": LITTLE, "on_exhausted": "refuse"}}})
    await way(router)
    before = [fleet[name].counts().received for name in fleet]
    with pytest.raises(BudgetExhausted) as caught:
        await way(router)
    assert isinstance(caught.value, openai.RateLimitError)
    assert (caught.value.status_code, caught.value.code) == (429, "wallie_budget_exhausted")
    assert 0 < caught.value.retry_after <= 25 * 3600
    assert caught.value.headers["x-should-retry"] == "false"
    assert "features.chat.budget" in str(caught.value)
    assert [fleet[name].counts().received for name in fleet] == before
    assert len(bus.of(Settled)) == 1
    assert [ended.success for ended in bus.of(Ended)] == [True, False]
    (row,) = rows(router).values()
    assert row["spent_usd"] == pytest.approx(bus.of(Settled)[0].cost_usd, abs=1e-9)
    assert row["reserved_usd"] == 0
    assert row["state"] == "exhausted"
    assert row["exhausts_at"] < row["reset_at"]
    assert_nothing_leaked(router)


async def test_calls_that_cost_three_times_their_estimates_have_later_ones_reserve_as_much(make_router: Make) -> None:
    router = make_router(features={"chat": {"budget": {"daily_usd": 1, "on_exhausted": "refuse"}}})
    reserved: list[float] = []

    async def call(_: Any) -> Any:
        (row,) = rows(router).values()
        reserved.append(row["reserved_usd"])
        return {"choices": [{"message": {"content": ""}}], "usage": {"prompt_tokens": 3_000, "completion_tokens": 0}}

    for _ in range(11):
        await execute_ai_request(router, GROUP, execute=call, estimated_tokens=1_000, **TAGS)
    assert reserved[0] == pytest.approx(reserved[9])
    assert reserved[10] == pytest.approx(3 * reserved[0], rel=1e-6)
    (row,) = rows(router).values()
    assert row["spent_usd"] == pytest.approx(11 * reserved[10])
    assert row["reserved_usd"] == 0


async def test_other_features_and_users_go_on(make_router: Make) -> None:
    budget = {"per_user": {"daily_usd": LITTLE}, "on_exhausted": "refuse"}
    router = make_router(features={"chat": {"budget": budget}})
    await execute_ai_request(router, GROUP, messages(), feature="chat", user_id="u")
    with pytest.raises(BudgetExhausted):
        await execute_ai_request(router, GROUP, messages(), feature="chat", user_id="u")
    for tags in ({"feature": "chat", "user_id": "v"}, {"feature": "chat"}, {"feature": "mail", "user_id": "u"}, {}):
        await execute_ai_request(router, GROUP, messages(), **tags)
    assert [(row["user"], row["state"]) for row in router.guard.budgets.rows()] == [
        ("u", "exhausted"),
        ("v", "exhausted"),
    ]


async def test_the_general_budget_counts_all_requests_and_each_user(make_router: Make) -> None:
    router = make_router(budget={"monthly_usd": 100, "per_user": {"daily_usd": LITTLE, "on_exhausted": "refuse"}})
    await execute_ai_request(router, GROUP, messages(), feature="mail", user_id="u")
    await execute_ai_request(router, GROUP, messages())
    with pytest.raises(BudgetExhausted, match="all features for each user"):
        await execute_ai_request(router, GROUP, messages(), feature="chat", user_id="u")
    assert rows(router)[None, None, "month"]["spent_usd"] == pytest.approx(
        2 * rows(router)[None, "u", "day"]["spent_usd"]
    )


async def test_requests_are_led_to_the_cheapest_member_and_the_record_says_why(make_router: Make) -> None:
    bus = RecordingBus()
    router = make_router(bus=bus, features={"chat": {"budget": {"daily_usd": LITTLE, "on_exhausted": "cheapest"}}})
    first = await execute_ai_request(router, "claude-opus-4", messages(), feature="chat")
    second = await execute_ai_request(router, "claude-opus-4", messages(), feature="chat")
    other = await execute_ai_request(router, "claude-opus-4", messages(), feature="mail")
    assert (first.model, other.model) == ("claude-opus-4", "claude-opus-4")
    assert second.model != "claude-opus-4"
    assert second.cost_usd is not None
    assert first.cost_usd is not None
    assert second.cost_usd < first.cost_usd
    ended = bus.of(Ended)[1]
    assert ended.order == "claude-opus-4"
    assert ended.why == (f"{second.model} first as the cheapest: the budget of chat is used up",)
    router.guard.switch("budgets", on=False)
    again = await execute_ai_request(router, "claude-opus-4", messages(), feature="chat")
    assert again.model == "claude-opus-4"


async def test_a_member_without_a_price_is_never_the_cheapest(make_router: Make) -> None:
    router = make_router(features={"chat": {"budget": {"daily_usd": LITTLE, "on_exhausted": "cheapest"}}})
    router.guard.budgets.unreserved("chat", None).settle(router.guard.clock.wall(), 1.0)
    entry = {"model_name": "mystery", "litellm_params": {"model": "openai/no-such-model", "api_key": "sk"}}
    router.add_deployment(litellm.Deployment(**entry, model_info={"id": "mystery"}))
    plan = router._planner.plan(
        "claude-opus-4", {"messages": messages()}, Caller("chat"), {"fallbacks": ["mystery", "gpt-4o-mini"]}
    )
    assert (plan.group, [member.group for member in plan.members]) == ("gpt-4o-mini", ["claude-opus-4", "mystery"])


async def test_an_alert_is_raised_once_at_each_level_and_the_requests_go_on(make_router: Make) -> None:
    bus = RecordingBus()
    router = make_router(bus=bus, features={"chat": {"budget": {"daily_usd": LITTLE, "monthly_usd": 500}}})
    for _ in range(3):
        await chat(router)
    crossed = bus.of(BudgetCrossed)
    assert [(one.level, one.window, one.feature) for one in crossed] == [
        ("warning", "day", "chat"),
        ("critical", "day", "chat"),
        ("exhausted", "day", "chat"),
    ]
    assert len(crossed[0].month) == len("2026-11-28")


async def test_retries_count_and_a_request_that_is_abandoned_or_fails_leaves_nothing_reserved(
    make_router: Make, fleet: SimulatedProviders
) -> None:
    bus = RecordingBus()
    router = make_router(bus=bus, features={"chat": {"budget": {"daily_usd": 1, "on_exhausted": "refuse"}}})
    answer = await router.acompletion(GROUP, messages(), stream=True, metadata=TAGS)
    await anext(answer)
    del answer
    gc.collect()
    task = asyncio.ensure_future(chat(router))
    await until(lambda: rows(router)["chat", None, "day"]["reserved_usd"] or task.done())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await chat(router)
    await until(lambda: not rows(router)["chat", None, "day"]["reserved_usd"])
    spent = sum(settled.cost_usd or 0 for settled in bus.of(Settled))
    assert rows(router)["chat", None, "day"]["spent_usd"] == pytest.approx(spent, abs=1e-8)
    assert_nothing_leaked(router)


async def test_a_hedge_that_loses_counts(make_router: Make, fleet: SimulatedProviders) -> None:
    bus = RecordingBus()
    feature = {"hedge": {"after": 0.05, "budget": 1}, "budget": {"daily_usd": 1, "on_exhausted": "refuse"}}
    router = make_router(bus=bus, features={"chat": feature})
    fleet["openai"].slow(0.5, times=1)
    await chat(router)
    await until(lambda: len(bus.of(Settled)) == 2 and not rows(router)["chat", None, "day"]["reserved_usd"])
    spent = sum(settled.cost_usd or 0 for settled in bus.of(Settled))
    assert rows(router)["chat", None, "day"]["spent_usd"] == pytest.approx(spent, abs=2e-9)
    assert [settled.hedge for settled in bus.of(Settled)] == [False, True]
    assert_nothing_leaked(router)


async def test_an_answer_from_the_cache_is_given_though_the_budget_is_spent(make_router: Make) -> None:
    budget = {"daily_usd": LITTLE, "on_exhausted": "refuse"}
    router = make_router(features={"chat": {"cache": "1h", "budget": budget}})
    for _ in range(2):
        answer = await router.acompletion(GROUP, messages(), temperature=0, metadata=TAGS)
        assert answer.choices[0].message.content
    with pytest.raises(BudgetExhausted):
        await router.acompletion(GROUP, messages("Something else"), temperature=0, metadata=TAGS)


async def test_a_changed_budget_holds_at_once_with_what_was_spent(make_router: Make) -> None:
    router = make_router(features={"chat": {"budget": {"daily_usd": LITTLE, "on_exhausted": "refuse"}}})
    await chat(router)
    with pytest.raises(BudgetExhausted):
        await chat(router)
    config, first = router.guard.config, rows(router)["chat", None, "day"]["spent_usd"]
    raised = FeatureSettings(budget=FeatureBudget(daily_usd=1.0, on_exhausted="refuse"))
    router.guard.configure(config.model_copy(update={"features": {"chat": raised}}))
    await chat(router)
    row = rows(router)["chat", None, "day"]
    assert (row["limit_usd"], row["state"], row["spent_usd"]) == (1.0, "ok", pytest.approx(2 * first))
    router.guard.configure(config.model_copy(update={"features": {"chat": FeatureSettings()}}))
    await chat(router)
    assert rows(router) == {}


def test_a_file_without_budgets_has_none(make_router: Make) -> None:
    router = make_router()
    assert router._attempts._budgeting is None
    assert router._planner._last_steps == ()
    assert router.guard.status()["budgets"] == []
