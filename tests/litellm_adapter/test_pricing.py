"""The cost of attempts, over real HTTP and for usage in every vendor's shape."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import litellm
import pytest
from litellm.types.utils import PromptTokensDetailsWrapper
from support import messages, shipped_config

from wallie_litellm import calculate_cost
from wallie_litellm.core.bill import NO_BILL, Bill
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.litellm_adapter.inner_router import InnerRouter
from wallie_litellm.litellm_adapter.pricing import PriceList
from wallie_litellm.litellm_adapter.responses import answer_of
from wallie_litellm.litellm_adapter.wires import wire_of
from wallie_litellm.litellm_adapter.wires.reader import Seen
from wallie_litellm.litellm_adapter.wires.usage import tokens_of

GROUPS = [entry["model_name"] for entry in shipped_config()["model_list"]]
CHATS = [group for group in GROUPS if "embedding" not in group]
PROMPT = 20  # tokens, as estimated
SOME = Demand(1, 1100, 1000, 100)


def deployment_of(router: Any, group: str) -> Mapping[str, Any]:
    return next(entry for entry in router.model_list if entry["model_name"] == group)


@pytest.fixture
def prices() -> PriceList:
    return PriceList()


@pytest.fixture
def price_map(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A price map to write into; LiteLLM's own is restored afterwards."""
    monkeypatch.setattr(litellm, "model_cost", {name: dict(entry) for name, entry in litellm.model_cost.items()})
    litellm.utils._invalidate_model_cost_lowercase_map()
    yield litellm.model_cost
    monkeypatch.undo()
    litellm.utils._invalidate_model_cost_lowercase_map()


@pytest.fixture
def deploy(price_map: dict[str, Any]) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes deployments as LiteLLM's Router registers them."""
    routers: list[litellm.Router] = []

    def make(model: str, info: Mapping[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        entry = {"model_name": "group", "litellm_params": {"model": model, "api_key": "fake", **params}}
        routers.append(litellm.Router(model_list=[{**entry, "model_info": dict(info or {})}]))
        return dict(InnerRouter(routers[-1]).deployments()[0])

    yield make
    for router in routers:
        InnerRouter(router).discard()


def litellm_says(deployment: Mapping[str, Any], usage: Any) -> float:
    model = deployment["litellm_params"]["model"]
    return float(sum(litellm.cost_per_token(model, usage_object=usage)))


def plain(tokens: Demand) -> litellm.Usage:
    return litellm.Usage(prompt_tokens=tokens.input, completion_tokens=tokens.output, total_tokens=tokens.tokens)


def bill_for(prices: PriceList, deployment: Mapping[str, Any], usage: Any, **more: Any) -> Bill:
    return prices.bill(deployment, tokens_of(usage), usage, **more)


async def read(stream: Any, operation: str = "chat", source: Any = None) -> Seen:
    reader = wire_of(operation)(source)
    async for chunk in stream:
        reader.see(chunk)
    return reader.seen(PROMPT)


# Over HTTP


def entry_points(router: Any, group: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    usage = {"stream_options": {"include_usage": True}}
    return {
        "chat": lambda: router.acompletion(group, messages()),
        "chat stream": lambda: router.acompletion(group, messages(), stream=True, **usage),
        "responses": lambda: router.aresponses(model=group, input="Hello there"),
        "responses stream": lambda: router.aresponses(model=group, input="Hello there", stream=True),
        "messages": lambda: router.aanthropic_messages(model=group, messages=messages(), max_tokens=50),
        "messages stream": lambda: router.aanthropic_messages(
            model=group, messages=messages(), max_tokens=50, stream=True
        ),
    }


@pytest.mark.parametrize("group", CHATS)
async def test_a_bill_is_what_litellm_charges_for_the_actual_usage(make_router: Any, prices: PriceList, group: str):
    router = make_router()
    deployment = deployment_of(router, group)
    for name, call in entry_points(router, group).items():
        answer = await call()
        if name.endswith("stream"):
            seen = await read(answer, name.removesuffix(" stream"))
            usage, reported, own = seen.usage, seen.reported, None
        else:
            usage, reported, own = answer_of(answer).usage, answer_of(answer).reported, answer_of(answer).cost
        assert usage is not None, name
        assert reported is not None, name
        cost = litellm_says(deployment, plain(usage))
        assert cost > 0
        expected = Bill(usage.input, usage.output, usage.tokens, cost_usd=cost)
        assert prices.bill(deployment, usage, reported, response_cost=own) == expected, name
        assert prices.bill(deployment, usage, reported) == expected, (name, "without LiteLLM's own price")


async def test_embeddings_are_billed(make_router: Any, prices: PriceList):
    router = make_router()
    answer = await router.aembedding(model="text-embedding-3-small", input=["Hello there", "you"])
    deployment = deployment_of(router, "text-embedding-3-small")
    usage = answer_of(answer).usage
    assert usage is not None
    cost = litellm_says(deployment, plain(usage))
    assert answer_of(answer).cost == cost > 0
    for own in (cost, None):
        bill = prices.bill(deployment, usage, answer.usage, response_cost=own, operation="embedding")
        assert bill == Bill(usage.input, 0, usage.input, cost_usd=cost)


@pytest.mark.parametrize("group", ["claude-sonnet-4", "gemini-2.0-flash"])
async def test_a_stream_that_was_not_asked_for_its_usage_may_report_it(make_router: Any, prices: PriceList, group: str):
    router = make_router()
    seen = await read(await router.acompletion(group, messages(), stream=True))
    bill = prices.bill(deployment_of(router, group), seen.usage, seen.reported)
    assert (bill.prompt_tokens, bill.estimated) == (7, False)
    assert bill.cost_usd


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "groq", "deepseek"])
async def test_a_stream_whose_provider_reports_no_usage_is_estimated(
    fleet: Any, deploy: Any, prices: PriceList, vendor: str, asked: bool
):
    fleet[vendor].omit_usage()
    models = (entry["litellm_params"]["model"] for entry in shipped_config()["model_list"])
    model = next(model for model in models if model.startswith(vendor))
    arguments = {"stream_options": {"include_usage": True}} if asked else {}
    stream = await litellm.acompletion(
        model, messages(), stream=True, api_base=fleet[vendor].api_base, api_key="fake", **arguments
    )
    seen = await read(stream, source=stream)
    deployment = deploy(model)
    bill = prices.bill(deployment, seen.usage, seen.reported, estimated=seen.estimated)
    assert bill.estimated
    assert bill.completion_tokens > 0
    assert bill.cost_usd == litellm_says(deployment, plain(seen.usage))


def test_a_message_that_breaks_off_is_estimated_from_its_delivered_part():
    reader = wire_of("messages")()
    usage = {"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 1}
    reader.see({"type": "message_start", "message": {"usage": usage}})
    reader.see({"type": "content_block_delta", "delta": {"text": "x" * 40}})
    seen = reader.seen(PROMPT)
    assert (seen.usage, seen.estimated) == (Demand(1, 24, 14, 10), True)
    assert seen.reported == {**usage, "output_tokens": 10}


def test_the_usage_of_a_message_is_put_together_from_its_events(deploy: Any, prices: PriceList):
    reader = wire_of("messages")()
    beginning = {"input_tokens": 10, "cache_read_input_tokens": 500, "output_tokens": 1}
    reader.see({"type": "message_start", "message": {"usage": beginning}})
    reader.see({"type": "message_delta", "usage": {"output_tokens": 50, "input_tokens": None}})
    seen = reader.seen(PROMPT)
    assert seen.reported == {**beginning, "output_tokens": 50}
    bill = prices.bill(deploy("anthropic/claude-sonnet-4-6"), seen.usage, seen.reported, estimated=seen.estimated)
    assert bill[:5] == (510, 50, 560, 500, 0)
    assert bill.cost_usd == pytest.approx(10 * 3e-6 + 500 * 3e-7 + 50 * 15e-6)
    assert not bill.estimated


# Usage in the vendors' shapes

CACHED_AND_REASONED = {
    "openai": litellm.Usage(
        prompt_tokens=1000,
        completion_tokens=100,
        total_tokens=1100,
        prompt_tokens_details={"cached_tokens": 400, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 60, "audio_tokens": 0},
    ),
    "anthropic": litellm.Usage(
        prompt_tokens=1000,
        completion_tokens=100,
        total_tokens=1100,
        cache_read_input_tokens=400,
        cache_creation_input_tokens=200,
        completion_tokens_details={"reasoning_tokens": 60},
    ),
    "deepseek": litellm.Usage(
        prompt_tokens=1000,
        completion_tokens=100,
        total_tokens=1100,
        prompt_cache_hit_tokens=400,
        prompt_cache_miss_tokens=600,
        completion_tokens_details={"reasoning_tokens": 60},
    ),
}


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("openai/o3", "openai"),
        ("groq/openai/gpt-oss-120b", "openai"),
        ("gemini/gemini-3.5-flash", "openai"),
        ("anthropic/claude-sonnet-4-6", "anthropic"),
        ("deepseek/deepseek-v4-flash", "deepseek"),
    ],
)
def test_cached_and_reasoning_tokens_cost_what_litellm_charges(deploy: Any, prices: PriceList, model: str, shape: str):
    usage, deployment = CACHED_AND_REASONED[shape], deploy(model)
    bill = bill_for(prices, deployment, usage)
    assert bill[:5] == (1000, 100, 1100, 400, 60)
    assert bill.cost_usd == litellm_says(deployment, usage)
    assert bill.cost_usd < litellm_says(deployment, plain(SOME)) or shape == "openai"


@pytest.mark.parametrize(
    "reported",
    [
        {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}},
        {"input_tokens": 1000, "output_tokens": 100, "input_tokens_details": {"cached_tokens": 400}},
        {"input_tokens": 600, "output_tokens": 100, "cache_read_input_tokens": 400},
        litellm.ResponseAPIUsage(
            input_tokens=1000, output_tokens=100, total_tokens=1100, input_tokens_details={"cached_tokens": 400}
        ),
    ],
    ids=["chat", "responses", "messages", "responses object"],
)
def test_every_wire_format_costs_the_same(deploy: Any, prices: PriceList, reported: Any):
    bill = bill_for(prices, deploy("openai/gpt-4o"), reported)
    assert bill[:4] == (1000, 100, 1100, 400)
    assert bill.cost_usd == pytest.approx(600 * 2.5e-6 + 400 * 1.25e-6 + 100 * 1e-5)


def test_reasoning_tokens_of_the_responses_api_are_counted(deploy: Any, prices: PriceList):
    usage = {"input_tokens": 10, "output_tokens": 100, "output_tokens_details": {"reasoning_tokens": 60}}
    assert bill_for(prices, deploy("openai/o3"), usage).reasoning_tokens == 60


# Prices of a deployment's own


def test_own_prices_go_before_the_maps(deploy: Any, prices: PriceList):
    own = {"input_cost_per_token": 1e-3, "output_cost_per_token": 2e-3}
    for deployment in (deploy("openai/gpt-4o", own), deploy("openai/gpt-4o", **own)):
        assert prices.bill(deployment, SOME, plain(SOME)).cost_usd == pytest.approx(1.2)
    assert prices.bill(deploy("openai/gpt-4o"), SOME, plain(SOME)).cost_usd == pytest.approx(0.0035)


@pytest.mark.parametrize(
    ("own", "cost"), [({"input_cost_per_token": 1e-3}, 1.0), ({"output_cost_per_token": 1e-3}, 0.1)]
)
def test_half_a_price_makes_the_other_half_free_as_it_does_in_litellm(
    deploy: Any, prices: PriceList, own: Any, cost: float
):
    assert prices.bill(deploy("openai/gpt-4o", own), SOME, plain(SOME)).cost_usd == pytest.approx(cost)


def test_cached_tokens_keep_the_maps_price_beside_own_prices(deploy: Any, prices: PriceList):
    own = {"input_cost_per_token": 1e-3, "output_cost_per_token": 2e-3}
    details = PromptTokensDetailsWrapper(cached_tokens=400)
    usage = litellm.Usage(prompt_tokens=1000, completion_tokens=100, total_tokens=1100, prompt_tokens_details=details)
    cost = bill_for(prices, deploy("openai/gpt-4o", own), usage).cost_usd
    assert cost == pytest.approx(600 * 1e-3 + 400 * 1.25e-6 + 100 * 2e-3)


async def test_own_prices_hold_for_streams_as_for_answers(make_router: Any, prices: PriceList):
    data = shipped_config()
    data["model_list"][0]["model_info"] = {"input_cost_per_token": 1e-3, "output_cost_per_token": "2e-3"}
    router = make_router(data=data)
    deployment = deployment_of(router, "gpt-4o")
    calls = entry_points(router, "gpt-4o")
    answer = await calls["chat"]()
    usage = answer_of(answer).usage
    assert usage is not None
    own = answer_of(answer).cost
    expected = pytest.approx(usage.input * 1e-3 + usage.output * 2e-3)
    assert prices.bill(deployment, usage, answer_of(answer).reported, response_cost=own).cost_usd == own == expected
    seen = await read(await calls["chat stream"]())
    assert prices.bill(deployment, seen.usage, seen.reported).cost_usd == expected


def test_what_another_model_answered_is_quoted_at_ones_own_price(deploy: Any, prices: PriceList):
    for usage in (plain(SOME), None):
        quoted = prices.quote(deploy("openai/gpt-4o-mini"), SOME, usage, "chat", None)
        assert quoted == pytest.approx(1000 * 1.5e-7 + 100 * 6e-7)
    assert prices.quote(deploy("openai/unlisted"), SOME, None, "chat", None) is None
    assert prices.quote(deploy("openai/gpt-4o-mini"), NOTHING, None, "chat", None) == 0.0


def test_a_base_model_gives_its_price(deploy: Any, prices: PriceList):
    for deployment in (
        deploy("openai/our-own-name", {"base_model": "gpt-4o-mini"}),
        deploy("openai/our-own-name", base_model="gpt-4o-mini"),
    ):
        assert prices.bill(deployment, SOME, plain(SOME)).cost_usd == pytest.approx(1000 * 1.5e-7 + 100 * 6e-7)


def test_the_price_of_a_pattern_is_that_of_the_model_asked_for(deploy: Any, prices: PriceList):
    pattern = deploy("openai/*")
    for model, cost in (("openai/gpt-4o", 0.0035), ("openai/gpt-4o-mini", 0.00021)):
        chosen = {**pattern, "litellm_params": {**pattern["litellm_params"], "model": model}}
        assert prices.bill(chosen, SOME, plain(SOME)).cost_usd == pytest.approx(cost)


# No price, and a price of nothing


def test_an_unlisted_model_is_unpriced_not_free(deploy: Any, prices: PriceList):
    deployment = deploy("openai/unlisted")
    for own in (None, 0.0):
        bill = prices.bill(deployment, SOME, plain(SOME), response_cost=own)
        assert bill == Bill(1000, 100, 1100, cost_usd=None, unpriced=True)
    assert not prices.is_priced(deployment)


async def test_a_zero_that_litellm_makes_up_for_no_price_is_unpriced(make_router: Any, fleet: Any, prices: PriceList):
    data = shipped_config()
    data["model_list"][0]["litellm_params"]["model"] = "openai/unlisted"
    router = make_router(data=data)
    answer = await router.acompletion("gpt-4o", messages())
    deployment = deployment_of(router, "gpt-4o")
    assert not answer_of(answer).cost
    bill = prices.bill(deployment, answer_of(answer).usage, answer.usage, response_cost=answer_of(answer).cost)
    assert (bill.cost_usd, bill.unpriced) == (None, True)


def test_a_model_of_an_unknown_vendor_is_unpriced(prices: PriceList):
    for deployment in ({"litellm_params": {"model": "nonsense"}}, {}):
        assert prices.bill(deployment, SOME, None).unpriced


@pytest.mark.parametrize("own_price_of_nothing", [True, False])
def test_a_stated_price_of_nothing_is_a_price(
    deploy: Any, prices: PriceList, price_map: dict[str, Any], own_price_of_nothing: bool
):
    free = {"input_cost_per_token": 0, "output_cost_per_token": 0}
    if not own_price_of_nothing:
        litellm.register_model({"openai/ours": {**free, "litellm_provider": "openai"}}, persist_across_reloads=False)
    deployment = deploy("openai/ours", free if own_price_of_nothing else None)
    assert prices.bill(deployment, SOME, plain(SOME), response_cost=0.0) == Bill(1000, 100, 1100, cost_usd=0.0)


def test_a_price_per_second_leaves_a_stream_without_a_duration_unpriced(deploy: Any, prices: PriceList):
    deployment = deploy("openai/ours", {"input_cost_per_second": 0.5})
    assert prices.bill(deployment, SOME, plain(SOME)).unpriced
    assert prices.bill(deployment, SOME, plain(SOME), response_cost=1.5).cost_usd == 1.5


def test_tiers_of_prices_are_prices(deploy: Any, prices: PriceList):
    bill = prices.bill(deploy("dashscope/qwen-flash"), SOME, plain(SOME))
    assert bill.cost_usd
    assert not bill.unpriced


@pytest.mark.parametrize("key", ["openai/comes-later", "comes-later"])
def test_a_price_that_is_registered_later_is_noticed(deploy: Any, prices: PriceList, key: str):
    deployment = deploy("openai/comes-later")
    assert prices.bill(deployment, SOME, plain(SOME)).unpriced
    price = {"input_cost_per_token": 1e-3, "output_cost_per_token": 2e-3, "litellm_provider": "openai"}
    litellm.register_model({key: price}, persist_across_reloads=False)
    fresh = prices.bill(deployment, SOME, plain(SOME))
    assert fresh == PriceList().bill(deployment, SOME, plain(SOME))
    if key == "openai/comes-later":
        assert fresh.cost_usd == pytest.approx(1.2)


def test_a_price_that_changes_is_noticed(deploy: Any, prices: PriceList, price_map: dict[str, Any]):
    deployment = deploy("openai/gpt-4o")
    assert prices.bill(deployment, SOME, plain(SOME)).cost_usd == pytest.approx(0.0035)
    litellm.register_model({"gpt-4o": {"input_cost_per_token": 1e-3}}, persist_across_reloads=False)
    assert prices.bill(deployment, SOME, plain(SOME)).cost_usd == pytest.approx(1.001)


def test_a_deployment_that_is_replaced_under_its_id_has_its_new_price(deploy: Any, prices: PriceList):
    before = deploy("openai/ours", {"id": "replaced"})
    assert prices.bill(before, SOME, plain(SOME)).unpriced
    after = deploy("openai/ours", {"id": "replaced", "input_cost_per_token": 1e-3, "output_cost_per_token": 2e-3})
    assert prices.bill(after, SOME, plain(SOME)).cost_usd == pytest.approx(1.2)


def test_a_lookup_that_fails_beside_another_thread_is_repeated(
    deploy: Any, prices: PriceList, monkeypatch: pytest.MonkeyPatch
):
    deployment, look_up = deploy("openai/gpt-4o"), litellm.get_model_info
    failures = [RuntimeError("dictionary changed size during iteration"), Exception("This model isn't mapped yet.")]

    def fail_twice(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return look_up(*args, **kwargs)

    monkeypatch.setattr(litellm, "get_model_info", fail_twice)
    assert prices.bill(deployment, SOME, plain(SOME)).cost_usd == pytest.approx(0.0035)


def test_a_lookup_that_goes_on_failing_leaves_the_call_unpriced_and_says_why(
    deploy: Any, prices: PriceList, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    deployment = deploy("openai/gpt-4o")

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(litellm, "get_model_info", fail)
    assert prices.bill(deployment, SOME, plain(SOME)).unpriced
    assert "cannot look up the price of openai/gpt-4o" in caplog.text
    assert "dictionary changed size" in caplog.text


# Discounts, margins, and other prices of LiteLLM's


@pytest.mark.parametrize(
    ("setting", "factor"), [("cost_discount_config", 0.75), ("cost_margin_config", 1.25)], ids=["discount", "margin"]
)
async def test_discounts_and_margins_hold_with_and_without_litellms_own_price(
    make_router: Any, prices: PriceList, monkeypatch: pytest.MonkeyPatch, setting: str, factor: float
):
    monkeypatch.setattr(litellm, setting, {"openai": 0.25})
    router = make_router()
    deployment = deployment_of(router, "gpt-4o")
    calls = entry_points(router, "gpt-4o")
    answer, message = await calls["chat"](), await calls["messages"]()
    for data in (answer, message):
        usage = answer_of(data).usage
        assert usage is not None
        bill = prices.bill(deployment, usage, answer_of(data).reported, response_cost=answer_of(data).cost)
        assert bill.cost_usd == pytest.approx(litellm_says(deployment, plain(usage)) * factor)


def test_a_margin_is_no_price(deploy: Any, prices: PriceList, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(litellm, "cost_margin_config", {"global": {"fixed_amount": 0.01}})
    assert prices.bill(deploy("openai/unlisted"), SOME, plain(SOME), response_cost=0.01).unpriced


def test_what_the_provider_itself_charges_is_a_price(deploy: Any, prices: PriceList):
    assert prices.bill(deploy("openai/unlisted"), SOME, plain(SOME), response_cost=0.02).cost_usd == 0.02


def test_an_image_without_tokens_costs_what_litellm_charges(deploy: Any, prices: PriceList):
    assert prices.bill(deploy("openai/gpt-4o"), None, None, response_cost=0.04) == Bill(cost_usd=0.04)


@pytest.mark.parametrize("usage", [None, NOTHING, Demand(1, 0, 0, 0)])
def test_nothing_used_costs_nothing_even_without_a_price(deploy: Any, prices: PriceList, usage: Demand | None):
    assert prices.bill(deploy("openai/unlisted"), usage, None) == NO_BILL


@pytest.mark.parametrize("own", [float("nan"), float("inf"), -1.0])
def test_a_senseless_price_of_litellms_is_not_taken(deploy: Any, prices: PriceList, own: float):
    bill = prices.bill(deploy("openai/gpt-4o"), SOME, plain(SOME), response_cost=own)
    assert bill.cost_usd == pytest.approx(0.0035)


def test_a_model_that_litellm_fails_to_price_is_unpriced_and_logged_once(
    deploy: Any, prices: PriceList, price_map: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    deployment = deploy("openai/gpt-4o")
    price_map["gpt-4o"]["input_cost_per_token"] = ["not", "a", "price"]
    with caplog.at_level(logging.WARNING, "wallie_litellm.litellm_adapter.pricing"):
        bills = [prices.bill(deployment, SOME, plain(SOME)) for _ in range(3)]
    assert {(bill.cost_usd, bill.unpriced, bill.total_tokens) for bill in bills} == {(None, True, 1100)}
    assert [
        record.getMessage() for record in caplog.records if record.name == "wallie_litellm.litellm_adapter.pricing"
    ] == ["LiteLLM cannot price openai/gpt-4o (TypeError): its calls count as unpriced"]


def test_calculate_cost_looks_up_the_same_price():
    assert calculate_cost("gpt-4o-mini", 1000, 100) == pytest.approx(1000 * 1.5e-7 + 100 * 6e-7)
    assert calculate_cost("anthropic/claude-sonnet-4-6", 1000, 100) == pytest.approx(0.0045)
    assert calculate_cost("gpt-4o-mini", 0, 0) == 0.0
    assert calculate_cost("dashscope/qwen-flash", 1000, 100)
    assert calculate_cost("openai/unlisted", 1000, 100) is None
    assert calculate_cost("nonsense", 0, 0) is None


@pytest.mark.parametrize(
    ("operation", "cost", "unpriced"),
    [("aimage_generation", None, True), ("aspeech", None, True), ("acreate_batch", 0.0, False), ("chat", 0.0, False)],
)
def test_an_answer_without_tokens_and_price_is_unpriced_and_not_zero(operation, cost, unpriced):
    deployment = {"litellm_params": {"model": "openai/gpt-4o"}, "model_info": {"id": "1"}}
    bill = PriceList().bill(deployment, None, None, response_cost=0.0, operation=operation)
    assert (bill.cost_usd, bill.unpriced, bill.total_tokens) == (cost, unpriced, 0)
