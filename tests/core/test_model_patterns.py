"""The pattern of a model's limits: with or without the vendor's prefix, and with that of the model's maker."""

from __future__ import annotations

import pytest

from wallie_litellm.core.model_patterns import ModelPatterns


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
