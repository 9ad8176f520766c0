"""Media in tokens, as the vendors bill them."""

from __future__ import annotations

import pytest

from wallie_litellm.core.media_tokens import Medium, rates_of


@pytest.mark.parametrize(
    ("model", "medium", "tokens"),
    [
        ("openai/gpt-4o", Medium("image", 1024, 1024), 765),  # the documentation's examples
        ("openai/gpt-4o", Medium("image", 2048, 4096), 1105),
        ("openai/gpt-4o", Medium("image", 4096, 8192, low=True), 85),
        ("openai/gpt-4o", Medium("image"), 765),
        ("openai/gpt-4o-mini", Medium("image", 512, 512), 8500),
        ("openai/gpt-4.1-mini", Medium("image", 1024, 1024), 1659),
        ("anthropic/claude-sonnet-4-5", Medium("image", 1000, 1000), 1334),
        ("bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", Medium("image", 8000, 8000), 1600),
        ("gemini/gemini-2.5-flash", Medium("image", 300, 200), 258),
        ("gemini/gemini-2.5-flash", Medium("image", 960, 540), 516),
        ("gemini/gemini-3.5-flash", Medium("image", 960, 540), 1120),
        ("gemini/gemini-2.5-flash", Medium("audio", seconds=10), 320),
        ("gemini/gemini-2.5-flash", Medium("video", seconds=10), 2630),
        ("gemini/gemini-2.5-flash", Medium("document", pages=4), 1032),
        ("gemini/gemini-3.5-flash", Medium("document", pages=5), 2800),
        ("anthropic/claude-sonnet-4-5", Medium("document", pages=2), 4500),
        ("openai/gpt-4o-audio-preview", Medium("audio", seconds=7.05), 71),
        ("hosted_vllm/some-model", Medium("image", 1024, 1024), 765),
    ],
)
def test_a_medium_counts_by_its_kind_and_size(model: str, medium: Medium, tokens: int) -> None:
    assert rates_of(model).tokens([medium]) == tokens


@pytest.mark.parametrize("kind", ["image", "audio", "video", "document"])
@pytest.mark.parametrize("model", ["gpt-4o", "claude-opus-4-6", "gemini-2.5-pro", "gemini-3.5-flash", "other"])
def test_a_medium_of_unknown_size_is_no_small_part_and_no_whole_limit(kind: str, model: str) -> None:
    assert 100 < rates_of(model).tokens([Medium(kind)]) < 20_000
