"""The pattern of a model's limits: with or without the vendor's prefix, and with that of the model's maker."""

from __future__ import annotations

import pytest

from wallie_litellm.core.model_patterns import ModelPatterns, hides


@pytest.mark.parametrize(
    ("vendor", "patterns", "found"),
    [
        ("groq", ["meta-llama/*", "openai/*"], {"openai/gpt-oss-20b": "openai/*", "meta-llama/l": "meta-llama/*"}),
        ("groq", ["groq/*"], {"openai/gpt-oss-20b": "groq/*", "qwen3": "groq/*", "groq/qwen3": "groq/*"}),
        ("groq", ["groq/openai/*"], {"openai/gpt-oss-20b": "groq/openai/*", "qwen/qwen3": "", "qwen3": ""}),
        ("openai", ["openai/gpt-4o*"], {"gpt-4o-mini": "openai/gpt-4o*", "openai/gpt-4o": "openai/gpt-4o*", "o1": ""}),
        ("openai", ["o*"], {"o3": "o*", "openai/o3": "o*", "gpt-4o": "", "openai/gpt-4o": ""}),
        ("openai", ["open*/o*"], {"openai/o3": "open*/o*", "gpt-4o": ""}),
        ("openai", ["gpt-4o*"], {"gpt-4o": "gpt-4o*", "openai/gpt-4o": "gpt-4o*"}),
    ],
)
def test_a_makers_prefix_is_a_part_of_the_name_and_the_vendors_may_be_left_out(
    vendor: str, patterns: list[str], found: dict[str, str]
) -> None:
    known = ModelPatterns(patterns, vendor)
    assert {model: known.find(model) for model in found} == found


@pytest.mark.parametrize(
    ("earlier", "pattern", "is_hidden"),
    [
        ("gpt-4o*", "gpt-4o-mini", True),
        ("gpt-4o*", "openai/gpt-4o-mini", True),
        ("openai/gpt-4o*", "gpt-4o-mini", True),
        ("openai/gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o*", False),
        ("gpt-4o*", "open*/gpt-4o-mini", False),  # which "openrouter/openai/gpt-4o-mini" matches as well
        ("openai/*", "*", False),
        ("*", "openai/*", True),
        ("o*", "openai/gpt-4o", False),
        ("meta-llama/*", "openai/gpt-oss-20b", False),
        ("gpt-4?", "gpt-4o", False),  # not looked into
    ],
)
def test_an_entry_is_hidden_by_one_before_it_that_matches_all_its_names(
    earlier: str, pattern: str, is_hidden: bool
) -> None:
    assert hides(earlier, pattern) is is_hidden
