"""Estimates that learn from the usage that vendors report."""

from __future__ import annotations

from typing import Any

import pytest

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.learned_estimates import ErrorFigures, Estimate, ModelEstimates, UsualUse, Wish
from wallie_litellm.core.media_tokens import Medium, rates_of
from wallie_litellm.core.prompt_size import PromptSize
from wallie_litellm.core.vendor_counting import rule_of

PROMPT = PromptSize(40_000)  # 10,000 tokens as estimated


class World:
    """One model at one vendor, and one feature's use of it."""

    def __init__(self, vendor: str = "openai", model: str = "gpt-4o", most: int | None = None) -> None:
        self.model = ModelEstimates(rule_of(vendor, model), rates_of(model), most)
        self.usual = UsualUse()

    def estimate(self, size: PromptSize = PROMPT, wish: Wish = Wish(), **more: Any) -> Estimate:  # noqa: B008
        return Estimate(size, wish, self.model, self.usual, **more)

    def calls(self, times: int, counted: int, output: int, size: PromptSize = PROMPT, cached: int = 0) -> None:
        for _ in range(times):
            made = self.estimate(size, marked=True)
            made.learn(Demand(1, counted + output, counted, output), cached, made.demand.tokens, counted + output)

    def errors(self) -> dict[str, Any]:
        self.model.errors.calls += 1
        return self.model.errors.as_dict()


def test_before_anything_is_learned_a_call_takes_its_prompt_and_max_tokens_or_150() -> None:
    world = World()
    assert world.estimate().demand == Demand(1, 10_150, 10_000, 150)
    assert world.estimate(wish=Wish(4_000)).demand == Demand(1, 14_000, 10_000, 4_000)
    assert world.estimate(wish=Wish(choices=3)).demand.output == 450
    assert world.estimate(wish=Wish(-3)).demand.output == 0
    assert world.estimate(wish=Wish(generates=False)).demand == Demand(1, 10_000, 10_000, 0)


def test_a_models_prompts_follow_the_vendors_count() -> None:
    world = World()
    world.calls(2, 13_000, 100)
    assert world.estimate().prompt == 10_000
    world.calls(18, 13_000, 100)
    assert world.estimate().prompt == 13_000


def test_each_kind_of_prompt_has_a_ratio_of_its_own() -> None:
    world = World()
    tools, picture, short = PromptSize(400, 40_000), PromptSize(40, media=(Medium("image"),)), PromptSize(400)
    world.calls(20, 8_000, 100, tools)
    world.calls(20, 1_550, 100, picture)
    world.calls(20, 130, 100, short)
    assert world.estimate(tools).prompt == pytest.approx(8_000, rel=0.01)
    assert world.estimate(picture).prompt == pytest.approx(1_550, rel=0.01)
    assert world.estimate(short).prompt == 130
    assert world.estimate().prompt == 10_000


def test_a_prompt_of_a_few_words_teaches_nothing() -> None:
    world = World()
    world.calls(20, 40, 100, PromptSize(40))
    assert world.estimate(PromptSize(40)).prompt == 10


@pytest.mark.parametrize("counted", [0, 10**9, 1])
def test_a_count_that_is_far_off_changes_nothing_by_itself(counted: int) -> None:
    world = World()
    world.calls(20, 12_000, 100)
    world.calls(3, counted, 100)
    assert world.estimate().prompt == 12_000


def test_counts_that_are_always_far_off_change_it_by_twenty_times_at_most() -> None:
    world = World()
    world.calls(20, 10**9, 100)
    assert world.estimate().prompt == 200_000


def test_the_usual_output_is_one_that_nine_of_ten_answers_do_not_exceed() -> None:
    world = World()
    for output in (100, 200, 300, 400, 500, 600, 700, 800, 900):
        world.calls(1, 10_000, output)
    assert world.estimate().demand.output == 150
    for output in (1000, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000):
        world.calls(1, 10_000, output)
    assert 800 <= world.estimate().demand.output <= 1000
    assert world.estimate(wish=Wish(choices=2)).demand.output >= 1600


def test_max_tokens_is_reserved_where_the_vendor_reserves_it() -> None:
    openai, anthropic = World(), World("anthropic", "claude-sonnet-4-5")
    for world in (openai, anthropic):
        world.calls(20, 10_000, 200)
    assert openai.estimate(wish=Wish(4_000)).demand.output == 4_000
    assert anthropic.estimate(wish=Wish(4_000)).demand.output == 200
    assert anthropic.estimate(wish=Wish(50)).demand.output == 50


def test_bedrock_reserves_the_models_most_where_nothing_is_stated() -> None:
    assert World("bedrock", "amazon.nova-pro-v1:0", most=10_000).estimate().demand.output == 10_000
    assert World("bedrock", "unlisted").estimate().demand.output == 150


def test_what_a_feature_reads_from_the_cache_is_not_asked_of_limits_that_do_not_count_it() -> None:
    world = World("anthropic", "claude-sonnet-4-5")
    assert world.estimate(marked=True).demand.input == 10_000
    world.calls(20, 10_000, 200, cached=9_500)
    estimate = world.estimate(marked=True)
    assert (estimate.demand.input, estimate.prompt) == (pytest.approx(500, abs=1), 10_000)
    assert world.estimate().demand.input == 10_000  # nothing is marked for the cache
    assert world.estimate(PromptSize(400), marked=True).demand.input == 100  # too short to be cached


def test_bedrocks_cached_tokens_are_asked_for_at_the_beginning() -> None:
    world = World("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0")
    world.calls(20, 10_000, 200, cached=9_500)
    assert world.estimate(marked=True).demand.input == 10_000


def test_only_a_prompt_that_may_be_cached_may_exceed_a_limit() -> None:
    anthropic, groq = World("anthropic", "claude-sonnet-4-5"), World("groq", "openai/gpt-oss-120b")
    assert anthropic.estimate(marked=True).may_exceed
    assert not anthropic.estimate().may_exceed
    assert not groq.estimate().may_exceed
    groq.calls(20, 10_000, 200, cached=9_500)
    assert groq.estimate().may_exceed


def test_the_errors_are_those_of_the_whole_and_of_the_prompt() -> None:
    world = World()
    world.calls(1, 8_000, 2_150)  # 10,150 reserved, 10,150 settled; the prompt is a quarter too large
    assert world.errors() == {
        "calls": 1,
        "ratio": 1.0,
        "mean_error": 0.0,
        "p95_error": 0.0,
        "prompt": {"mean_error": 0.25, "p95_error": 0.25},
    }


def test_the_ratio_weighs_calls_by_their_tokens() -> None:
    figures = ErrorFigures()
    for _ in range(9):
        figures.add(152, 8, 0.0)  # a tiny call with the output that is reserved where none is known
    figures.add(10_000, 10_000, 0.0)
    assert figures.plus(ErrorFigures()).as_dict()["ratio"] == round((9 * 152 + 10_000) / (9 * 8 + 10_000), 4)
    assert figures.as_dict()["mean_error"] == 16.2


def test_there_are_no_errors_before_a_call_is_settled() -> None:
    assert World().model.errors.as_dict()["mean_error"] is None


def test_of_many_calls_one_in_four_is_looked_at() -> None:
    model = World().model
    assert sum(model.is_looked_at() for _ in range(500)) == 200
    assert model.errors.calls == 500
