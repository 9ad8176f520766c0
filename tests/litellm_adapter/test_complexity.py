"""LiteLLM's scorer of prompts, without a Router and without a call: alike on every supported release."""

from __future__ import annotations

import pytest

from wallie_litellm.core.prompt_complexity import LONG, PromptComplexity, excerpt
from wallie_litellm.litellm_adapter.complexity import complexity_classifier

CODE = (
    "Write a python function that debounces async api calls, with error handling. First do this, then that: "
    "optimize the database queries of the distributed architecture, and deploy it to kubernetes."
)

classify = complexity_classifier()


@pytest.mark.parametrize(
    ("prompt", "level", "kinds"),
    [
        ("What is the capital of France?", "simple", {"short", "simple"}),
        (CODE, "complex", {"code", "technical", "multi-step"}),
        ("Think step by step and analyze this algorithm: what are the tradeoffs?", "reasoning", {"code", "reasoning"}),
        ("", "simple", {"short"}),
    ],
)
def test_prompts_of_each_level(prompt: str, level: str, kinds: set[str]) -> None:
    found = classify(prompt)
    assert found.level == level
    assert kinds <= set(found.kinds)


def test_a_hard_question_without_its_keywords_is_simple() -> None:
    # What its own users report: the documentation of ``auto`` warns of it.
    asked = "Determine the major product of 2-methylcyclohexanone with LDA at -78 C, followed by benzyl bromide."
    assert classify(asked).level == "simple"


def test_of_a_long_prompt_both_ends_are_looked_at() -> None:
    filler = "lorem ipsum dolor sit amet " * 400
    assert len(excerpt(filler)) < LONG
    long = classify(filler)
    assert (long.level, long.kinds) == ("simple", ("long",))
    for prompt in (f"{CODE} {filler}", f"{filler} {CODE}"):
        assert classify(prompt).level in ("complex", "reasoning")


def test_kinds_of_signals_have_no_words_of_the_prompt() -> None:
    assert PromptComplexity("medium", 0.2, ("code (python, async)", "multi-step")).kinds == ("code", "multi-step")
