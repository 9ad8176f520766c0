"""What the check finds about the caches of features."""

from __future__ import annotations

from typing import Any

import pytest
from check_support import entry

CACHED = {"features": {"faq": {"cache": "1h"}}}


@pytest.mark.parametrize("kind", ["local", "redis", "disk"])
def test_a_cache_that_finds_answers_by_their_question_is_neither_problem_nor_note(check: Any, kind: str) -> None:
    report = check(entry("openai/gpt-4o"), wallie=CACHED, litellm_settings={"cache_params": {"type": kind}})
    assert (report.problems, report.notes) == ((), ())


def test_a_semantic_cache_is_a_problem_where_a_feature_wants_exact_answers(check: Any) -> None:
    semantic = {"cache_params": {"type": "qdrant-semantic"}}
    [problem] = check(entry("openai/gpt-4o"), wallie=CACHED, litellm_settings=semantic).problems
    assert problem.endswith(
        "litellm_settings.cache_params.type: found 'qdrant-semantic', expected one of local, redis, disk, for"
        " wallie.features.faq.cache: answers are found by their exact question"
    )
    assert check(entry("openai/gpt-4o"), litellm_settings=semantic).problems == ()


def test_a_deployment_whose_answers_the_cache_does_not_keep_is_noted(check: Any) -> None:
    warm = entry("openai/gpt-4o", temperature=0.7)
    [note] = check(warm, wallie=CACHED).notes
    assert "wallie.features.faq.cache: answers of " in note
    assert "any_temperature: true keeps them" in note
    kept = {"features": {"faq": {"cache": {"ttl": "1h", "any_temperature": True}}}}
    assert check(warm, wallie=kept).notes == ()


def test_a_prompt_cache_without_a_model_that_goes_by_marks_is_noted(check: Any) -> None:
    marked = {"features": {"chat": {"prompt_cache": True}}}
    [note] = check(entry("openai/gpt-4o"), wallie=marked).notes
    assert "wallie.features.chat.prompt_cache: marks are sent to Claude's and Nova's models only" in note
    claude = check(entry("anthropic/claude-sonnet-4-5"), wallie=marked)
    assert not any("features.chat.prompt_cache" in note for note in claude.notes)
