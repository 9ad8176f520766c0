"""What each vendor's limits count: when a call begins, and when its usage is known."""

from __future__ import annotations

import pytest

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.vendor_counting import PLAIN, RULES, rule_of

USED = Demand(1, 10_100, 10_000, 100)  # of which 9,000 were read from the vendor's cache
CACHED = 9_000


@pytest.mark.parametrize(
    ("vendor", "model", "stated", "counted"),
    [
        ("openai", "gpt-4o", None, USED),
        ("azure", "deployment", None, USED),
        ("cerebras", "gpt-oss-120b", None, USED),
        ("mistral", "mistral-large", None, USED),
        ("anthropic", "claude-sonnet-4-5", None, Demand(1, 1_100, 1_000, 100)),
        ("anthropic", "claude-3-5-haiku-20241022", None, USED),
        ("groq", "llama-3.1-8b-instant", None, Demand(1, 1_100, 1_000, 100)),
        ("gemini", "gemini-2.5-flash", None, Demand(1, 10_000, 10_000, 100)),
        ("bedrock", "anthropic.claude-sonnet-4-20250514-v1:0", None, Demand(1, 1_500, 1_000, 100)),
        ("bedrock", "amazon.nova-pro-v1:0", None, Demand(1, 1_100, 1_000, 100)),
        ("openai", "gpt-4o", "exclude", Demand(1, 1_100, 1_000, 100)),
        ("anthropic", "claude-sonnet-4-5", "include", USED),
        ("bedrock", "amazon.nova-pro-v1:0", "include", USED),
    ],
)
def test_a_usage_is_counted_as_the_vendor_does_unless_the_file_says_otherwise(
    vendor: str, model: str, stated: str | None, counted: Demand
) -> None:
    assert rule_of(vendor, model, stated).counted(USED, CACHED) == counted


@pytest.mark.parametrize(
    ("vendor", "taken"),
    [("openai", Demand(1, 150, 100, 50)), ("gemini", Demand(1, 100, 100, 50)), ("bedrock", Demand(1, 150, 100, 50))],
)
def test_a_call_takes_its_prompt_and_what_of_its_output_the_vendor_counts(vendor: str, taken: Demand) -> None:
    assert rule_of(vendor, "model").demand(100, 50) == taken


def test_what_is_read_from_bedrocks_cache_counts_at_the_beginning_and_from_anthropics_never() -> None:
    bedrock, anthropic = rule_of("bedrock", "anthropic.claude-opus-4-6-v1"), rule_of("anthropic", "claude-opus-4-6")
    assert (bedrock.excludes_cached, bedrock.expects_cached) == (True, False)
    assert (anthropic.excludes_cached, anthropic.expects_cached) == (True, True)


def test_never_more_is_taken_off_than_the_prompt_has() -> None:
    assert rule_of("anthropic", "claude-opus-4-6").counted(Demand(1, 150, 100, 50), 500) == Demand(1, 50, 0, 50)


def test_a_vendor_that_counts_everything_once_has_the_plain_rule() -> None:
    assert all(rule_of(vendor, "m") is PLAIN for vendor in ("openai", "azure", "cerebras", "nowhere"))
    assert not any(rule_of(vendor, "m") is PLAIN for vendor in set(RULES) - {"openai", "azure", "cerebras"})
