"""The price of text alone is what LiteLLM's own calculation comes to, without asking it each time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import litellm
import pytest
from litellm.types.utils import CompletionTokensDetailsWrapper, PromptTokensDetailsWrapper

from wallie_litellm.core.demand import Demand
from wallie_litellm.litellm_adapter.plain_prices import PlainPrices, is_plain, plain_prices
from wallie_litellm.litellm_adapter.pricing import PriceList

PRICES = {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6}
MODELS = (
    "openai/gpt-4o-mini",
    "azure/gpt-4o",
    "anthropic/claude-opus-4-6",
    "gemini/gemini-2.5-pro",
    "groq/openai/gpt-oss-20b",
    "mistral/mistral-large-latest",
)
USES = (Demand(1, 300, 100, 200), Demand(1, 33_010, 33_000, 10), Demand(1, 260_000, 200_001, 59_999))


def usage_of(tokens: Demand, **more: Any) -> litellm.Usage:
    return litellm.Usage(
        prompt_tokens=tokens.input, completion_tokens=tokens.output, total_tokens=tokens.tokens, **more
    )


def deployed(model: str) -> Mapping[str, Any]:
    return {"model_name": "group", "litellm_params": {"model": model}, "model_info": {"id": model}}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("service_tier", [None, "default", "priority"])
def test_text_costs_what_litellm_charges(model: str, service_tier: str | None):
    prices = PriceList()
    for tokens in USES:
        usage = usage_of(tokens)
        answer = {"usage": usage, **({} if service_tier is None else {"service_tier": service_tier})}
        expected = litellm.completion_cost(completion_response=answer, model=model, call_type="acompletion")
        for reported in (usage, None):
            bill = prices.bill(deployed(model), tokens, reported, service_tier=service_tier)
            assert bill.cost_usd == pytest.approx(expected, rel=1e-9), tokens


def test_litellm_is_not_asked_for_the_price_of_each_text(monkeypatch: pytest.MonkeyPatch):
    prices, model = PriceList(), deployed("openai/gpt-4o-mini")
    first = prices.bill(model, USES[0], usage_of(USES[0])).cost_usd
    monkeypatch.setattr(litellm, "completion_cost", lambda **_: 1.0)
    assert prices.bill(model, USES[0], usage_of(USES[0])).cost_usd == first
    written = usage_of(USES[0], prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=64))
    assert prices.bill(model, USES[0], written).cost_usd == 1.0
    assert prices.bill(model, USES[0], usage_of(USES[0]), service_tier="flex").cost_usd == 1.0
    assert prices.bill(model, USES[0], usage_of(USES[0]), operation="embedding").cost_usd == 1.0
    monkeypatch.setattr(litellm, "cost_discount_config", {"openai": 0.5})
    assert prices.bill(model, USES[0], usage_of(USES[0])).cost_usd == 1.0


@pytest.mark.parametrize(
    ("entry", "factor"),
    [
        (None, 1.0),
        ({"input_cost_per_token": 2e-6}, 1.0),
        (PRICES, 1.1),  # a region's
    ],
)
def test_prices_of_more_than_two_numbers_are_litellms(entry: Mapping[str, Any] | None, factor: float):
    assert plain_prices(entry, lambda tokens: PlainPrices(2e-6, 8e-6).cost(tokens) * factor) is None


def test_prices_by_length_are_litellms():
    def quote(tokens: Demand) -> float:
        return PlainPrices(2e-6, 8e-6).cost(tokens) * (2 if tokens.input > 512_000 else 1)

    assert plain_prices(PRICES, quote) is None


def test_a_model_that_litellm_cannot_price_has_no_plain_prices():
    def quote(_tokens: Demand) -> float:
        raise ValueError("no price")

    assert plain_prices(PRICES, quote) is None


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (None, True),
        (usage_of(USES[0]), True),
        (usage_of(USES[0], prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=0)), True),
        (usage_of(USES[0], prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=1)), False),
        (usage_of(USES[0], prompt_tokens_details=PromptTokensDetailsWrapper(audio_tokens=1)), False),
        (usage_of(USES[0], completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=1)), False),
        (usage_of(USES[0], cache_creation_input_tokens=1), False),
        (usage_of(USES[0], speed="fast"), False),
        (usage_of(USES[0], cost=0.1), False),
        ({"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300}, False),
    ],
)
def test_a_usage_with_any_detail_is_not_plain(reported: Any, expected: bool):
    assert is_plain(reported) is expected
