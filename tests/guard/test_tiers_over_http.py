"""Tiers and ``auto`` over real HTTP: the helpers, plain router calls of every kind, and streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from openai import BadRequestError
from recording import RecordingBus
from support import assert_nothing_leaked, messages

from wallie_litellm import WallieRouter, execute_ai_request, execute_ai_request_sync, stream_ai_request
from wallie_litellm.errors import UnknownTier
from wallie_litellm.events import Ended, FellBack
from wallie_litellm.simulator import SimulatedProviders

TIERS = {
    "flash": ["gpt-4o-mini", "gemini-2.0-flash", "llama-3.1-8b"],
    "standard": ["claude-sonnet-4", "gpt-4o"],
    "premium": ["claude-opus-4", "gpt-4o"],
}
AUTO = {"simple": "flash", "medium": "standard", "complex": "premium"}
HARD = (
    "Write a python function that debounces async api calls, with error handling. First do this, then that: "
    "optimize the database queries of the distributed architecture, and deploy it to kubernetes."
)
Make = Callable[..., WallieRouter]


def tiered(
    make_router: Make, bus: RecordingBus | None = None, arguments: dict[str, Any] | None = None, **auto: Any
) -> WallieRouter:
    features = {"chat": {"tier": "premium"}, "smart": {"tier": "auto"}}
    return make_router(
        bus=bus,
        arguments=arguments,
        routing={"tiers": TIERS, "auto": {**AUTO, **auto}},
        features=features,
        retry={"max_retries": 0},
    )


def ended(bus: RecordingBus) -> Ended:
    return bus.of(Ended)[-1]


def models_of(fleet: SimulatedProviders, provider: str) -> list[str]:
    return [body["model"] for body in fleet[provider].bodies()]


async def test_helpers_take_a_tier_as_model_by_argument_and_by_feature(make_router: Make) -> None:
    router = tiered(make_router)
    for arguments, group in (
        ({"model": "flash"}, "gpt-4o-mini"),
        ({"model": "gpt-4o-mini", "tier": "premium"}, "claude-opus-4"),
        ({"feature": "chat"}, "claude-opus-4"),
        ({"feature": "chat", "model": "gpt-4o"}, "gpt-4o"),
        ({"model": "auto"}, "gpt-4o-mini"),
    ):
        result = await execute_ai_request(router, messages=messages("hi"), **arguments)
        assert (result.model, result.used_fallback) == (group, False), arguments
        stream = stream_ai_request(router, messages=messages("hi"), **arguments)
        assert "".join([delta async for delta in stream])
        assert stream.result is not None
        assert stream.result.model == group, arguments
    assert_nothing_leaked(router)


def test_the_helper_without_an_event_loop_takes_a_tier(make_router: Make) -> None:
    router = tiered(make_router)
    assert execute_ai_request_sync(router, messages=messages("hi"), feature="chat").model == "claude-opus-4"
    assert execute_ai_request_sync(router, "flash", messages("hi")).model == "gpt-4o-mini"


async def test_a_call_of_the_applications_own_goes_along_a_tiers_chain(make_router: Make) -> None:
    targets = []
    await execute_ai_request(tiered(make_router), tier="premium", execute=targets.append)
    assert [(one.provider, one.group) for one in targets] == [("anthropic", "claude-opus-4")]


async def test_plain_calls_of_every_kind_take_a_tier(make_router: Make, fleet: SimulatedProviders) -> None:
    router = tiered(make_router)
    by_feature = {"metadata": {"feature": "chat"}}
    await router.acompletion(model="premium", messages=messages("hi"))
    await router.acompletion(messages=messages("hi"), **by_feature)
    stream = await router.acompletion(messages=messages("hi"), stream=True, **by_feature)
    assert [chunk async for chunk in stream]
    await router.aanthropic_messages(model="premium", messages=messages("hi"), max_tokens=20)
    await router.aanthropic_messages(
        messages=messages("hi"), max_tokens=20, litellm_metadata={"feature": "chat"}, model=None
    )
    await router.aresponses(model="premium", input="hi")
    assert models_of(fleet, "anthropic") == ["claude-opus-4-6"] * 6
    assert_nothing_leaked(router)


def test_plain_calls_without_an_event_loop_take_a_tier(make_router: Make, fleet: SimulatedProviders) -> None:
    router = tiered(make_router)
    router.completion(model="premium", messages=messages("hi"))
    router.completion(messages=messages("hi"), metadata={"feature": "chat"})
    assert list(router.completion("gpt-4o-mini", messages("hi"), stream=True, tier="premium"))
    assert models_of(fleet, "anthropic") == ["claude-opus-4-6"] * 3
    assert all("tier" not in body for body in fleet["anthropic"].bodies())


async def test_a_tiers_chain_stands_in_the_place_of_configured_fallbacks(
    make_router: Make, fleet: SimulatedProviders
) -> None:
    bus = RecordingBus()
    router = tiered(make_router, bus)
    fleet["openai"].fail(status=500)
    result = await execute_ai_request(router, "flash", messages("hi"), feature="news")
    assert (result.model, result.used_fallback) == ("gemini-2.0-flash", True)
    assert [(one.from_model, one.to_model) for one in bus.of(FellBack)] == [("gpt-4o-mini", "gemini-2.0-flash")]
    request = ended(bus)
    assert (request.requested, request.model, request.tier) == ("flash", "gpt-4o-mini", "flash")
    assert request.why == ("tier flash by its name",)
    assert router.chain_of("flash") == ["gemini-2.0-flash", "llama-3.1-8b"]
    assert router.chain_of("gpt-4o-mini") == ["claude-sonnet-4", "gemini-2.0-flash", "llama-3.1-8b"]
    listed = {one["chain"][0]: one for one in router.guard.status()["routing"]["chains"]}
    assert listed["gpt-4o-mini"]["chain"] == ["gpt-4o-mini", *router.chain_of("gpt-4o-mini")]
    assert listed["gpt-4o-mini"]["providers"]["claude-sonnet-4"] == ["anthropic"]
    assert router.guard.next_fallback("flash", exclude=["gemini"]) == "llama-3.1-8b"
    assert router.providers_of("flash") == {"openai"}


SPECIAL = {"context_window": "context_window_fallbacks", "content_policy": "content_policy_fallbacks"}


@pytest.mark.parametrize("fault", SPECIAL)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_a_tiers_group_refuses_goes_along_that_groups_own_chain(
    make_router: Make, fleet: SimulatedProviders, fault: str, stream: bool
) -> None:
    bus = RecordingBus()
    settings = {SPECIAL[fault]: [{"gpt-4o-mini": ["claude-sonnet-4"]}]}
    router = tiered(make_router, bus, settings)
    getattr(fleet["openai"], fault)()

    async def ask(**more: Any) -> str:
        answer = await router.acompletion("flash", messages("hi"), stream=stream, **more)
        if stream:
            assert [chunk async for chunk in answer]
        return str(answer._hidden_params["additional_headers"]["x-wallie-model-group"])

    assert await ask() == "claude-sonnet-4"
    request = ended(bus)
    assert (request.requested, request.model, request.tier, request.success) == ("flash", "gpt-4o-mini", "flash", True)
    # What a request states goes before that, by the name that it asks for or by the group's, and may be a tier.
    assert await ask(**{SPECIAL[fault]: [{"gpt-4o-mini": ["gemini-2.0-flash"]}]}) == "gemini-2.0-flash"
    assert await ask(**{SPECIAL[fault]: [{"flash": ["gemini-2.0-flash"]}]}) == "gemini-2.0-flash"
    fleet["anthropic"].fail(status=500, model="claude-opus-4-6")
    fleet["openai"].restore()
    getattr(fleet["openai"], fault)(model="gpt-4o-mini")
    assert await ask(**{SPECIAL[fault]: ["premium"]}) == "gpt-4o"
    assert [(one.from_model, one.to_model) for one in bus.of(FellBack)[-2:]] == [
        ("gpt-4o-mini", "claude-opus-4"), ("claude-opus-4", "gpt-4o"),
    ]  # fmt: skip


@pytest.mark.parametrize("fault", SPECIAL)
async def test_without_a_chain_for_that_a_refused_prompt_ends_a_tiers_request(
    make_router: Make, fleet: SimulatedProviders, fault: str
) -> None:
    bus = RecordingBus()
    router = tiered(make_router, bus)
    getattr(fleet["openai"], fault)()
    with pytest.raises(BadRequestError):
        await execute_ai_request(router, "flash", messages("hi"))
    assert (ended(bus).tier, ended(bus).status_code, bus.of(FellBack)) == ("flash", 400, [])


async def test_auto_goes_by_the_prompt_and_its_record_says_why_and_what_it_saved(make_router: Make) -> None:
    bus = RecordingBus()
    router = tiered(make_router, bus)
    simple = await execute_ai_request(router, "auto", messages("What is the capital of France?"))
    request = ended(bus)
    assert (simple.model, request.tier, request.auto_tier, request.requested) == (
        "gpt-4o-mini", "flash", "flash", "auto",
    )  # fmt: skip
    assert request.why[1].startswith("auto: flash, as the prompt is simple (")
    assert "France" not in "".join(request.why)
    premium = await execute_ai_request(router, "claude-opus-4", messages("What is the capital of France?"))
    assert premium.cost_usd is not None
    assert simple.cost_usd is not None
    # The prices of both on the tokens of the one that served.
    rate_in, rate_out = 5e-6, 25e-6
    other = simple.prompt_tokens * rate_in + simple.completion_tokens * rate_out
    assert request.auto_saved_usd == pytest.approx(other - simple.cost_usd)
    hard = await execute_ai_request(router, feature="smart", messages=messages(HARD))
    assert (hard.model, ended(bus).auto_tier, ended(bus).auto_saved_usd) == ("claude-opus-4", "premium", 0.0)


async def test_an_agents_own_text_does_not_count(make_router: Make) -> None:
    router = tiered(make_router)
    reminder = {"type": "text", "text": f"<system-reminder>{HARD} Think step by step.</system-reminder>"}
    conversation = [
        {"role": "system", "content": f"{HARD} Think step by step and analyze this."},
        {"role": "user", "content": [reminder, {"type": "text", "text": "hi"}]},
    ]
    assert (await execute_ai_request(router, "auto", conversation)).model == "gpt-4o-mini"


async def test_shadow_changes_nothing_that_a_provider_sees(make_router: Make, fleet: SimulatedProviders) -> None:
    asked = {"messages": messages("What is the capital of France?"), "metadata": {"session_id": "s"}}

    async def sent(router: WallieRouter) -> dict[str, Any]:
        await router.acompletion(model="claude-opus-4", **asked)
        assert [chunk async for chunk in await router.acompletion(model="standard", stream=True, **asked)]
        await router.acompletion(messages=asked["messages"], metadata={"feature": "chat", "session_id": "s"})
        bodies = {name: fleet[name].bodies() for name in fleet}
        for name in fleet:
            fleet[name].reset()
        return bodies

    plain = await sent(make_router(routing={"tiers": TIERS}, features={"chat": {"tier": "premium"}}))
    bus = RecordingBus()
    in_shadow = await sent(tiered(make_router, bus, shadow=True))
    assert in_shadow == plain
    records = bus.of(Ended)
    assert [one.auto_tier for one in records] == ["flash"] * 3
    assert [one.tier for one in records] == [None, "standard", "premium"]
    first = records[0].settled[-1]
    cheaper = first.prompt_tokens * 0.15e-6 + first.completion_tokens * 0.6e-6
    assert first.cost_usd is not None
    assert records[0].auto_saved_usd == pytest.approx(first.cost_usd - cheaper)


async def test_a_switch_sends_auto_to_its_middle_tier_and_back(make_router: Make) -> None:
    router = tiered(make_router)
    router.guard.switch("auto", on=False)
    assert (await execute_ai_request(router, "auto", messages(HARD))).model == "claude-sonnet-4"
    assert (await execute_ai_request(router, "premium", messages(HARD))).model == "claude-opus-4"
    router.guard.switch("auto", on=True)
    assert (await execute_ai_request(router, "auto", messages(HARD))).model == "claude-opus-4"


async def test_an_unknown_tier_is_refused_before_any_call(make_router: Make, fleet: SimulatedProviders) -> None:
    router = tiered(make_router)
    with pytest.raises(UnknownTier, match="did you mean 'premium'"):
        await execute_ai_request(router, "gpt-4o", messages(), tier="premum")
    with pytest.raises(UnknownTier, match="has none"):
        await execute_ai_request(make_router(), "gpt-4o", messages(), tier="premium")
    with pytest.raises(TypeError, match="a model is missing"):
        await execute_ai_request(router, messages=messages(), feature="news")
    assert not any(fleet[name].bodies() for name in fleet)


async def test_status_shows_tiers_and_what_auto_chose_and_saved(make_router: Make) -> None:
    bus = RecordingBus()
    router = tiered(make_router, bus)
    await execute_ai_request(router, "auto", messages("hi"), metadata={"conversationId": "c1"})
    routing = router.guard.status()["routing"]
    assert routing["tiers"] == TIERS
    assert routing["auto"] == {
        "tiers": {**AUTO, "reasoning": "premium"}, "shadow": False, "chosen": {"flash": 1}, "sessions": 1,
        "saved_usd": pytest.approx(ended(bus).auto_saved_usd),
    }  # fmt: skip
