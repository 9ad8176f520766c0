"""Errors that are the request's own: they end it at once, and only those with a chain of their own go along that."""

from __future__ import annotations

import litellm
import pytest
from failover_rows import Row, each

POLICY = {"content_policy_fallbacks": [{"chat": ["special"]}]}
WINDOW = {"context_window_fallbacks": [{"chat": ["special"]}]}
ROWS = [
    Row(
        "a 400",
        lambda fleet: fleet["openai"].fail(400),
        error=litellm.BadRequestError,
        status=400,
    ),
    Row(
        "content policy",
        lambda fleet: fleet["openai"].content_policy(),
        error=litellm.BadRequestError,  # or its ContentPolicyViolationError: LiteLLM 1.110 does not know these words
        status=400,
    ),
    Row(
        "context window",
        lambda fleet: fleet["openai"].context_window(),
        error=litellm.ContextWindowExceededError,
        status=400,
    ),
    Row(
        "content policy, with a chain for prompts that are too long",
        lambda fleet: fleet["openai"].content_policy(),
        error=litellm.BadRequestError,  # or its ContentPolicyViolationError: LiteLLM 1.110 does not know these words
        status=400,
        router=WINDOW,
    ),
    Row(
        "context window, with a chain for refused prompts",
        lambda fleet: fleet["openai"].context_window(),
        error=litellm.ContextWindowExceededError,
        status=400,
        router=POLICY,
    ),
    Row(
        "content policy, with its own chain",
        lambda fleet: fleet["openai"].content_policy(),
        others={"special": each},
        router=POLICY,
    ),
    Row(
        "context window, with its own chain",
        lambda fleet: fleet["openai"].context_window(),
        others={"special": each},
        router=WINDOW,
    ),
    Row(
        "a 400 of the fallback",
        lambda fleet: (fleet["openai"].refuse(), fleet["anthropic"].fail(400)),
        within=(1 + 2 + 4) * 1.25,
        primary=0,
        others={"backup": each, "special": 0},
        chain=("backup", "special"),
        error=litellm.BadRequestError,
        status=400,
        circuit="open",
    ),
]


@pytest.mark.parametrize("at_once", [False, True], ids=["in-turn", "at-once"])
@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_the_callers_own_error_ends_the_request_or_goes_along_its_own_chain(judge, row, at_once):
    await judge(row, whole=True, stream=True, at_once=at_once)
