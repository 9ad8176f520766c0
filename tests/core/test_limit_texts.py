"""What the texts of 429s say of an account's limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.core.limit_texts import sightings_in_text

GOOGLES = (
    '{"error": {"details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": ['
    '{"quotaMetric": "x/generate_content_free_tier_requests", "quotaId": '
    '"GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaDimensions": {"model": "gemini-2.5-flash"}, '
    '"quotaValue": "20"}, {"quotaMetric": "x/generate_content_free_tier_input_token_count", "quotaId": '
    '"GenerateContentInputTokensPerModelPerMinute-FreeTier", "quotaDimensions": {"location": "global"}}, '
    '{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "10"}]}, '
    '{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}]}}'
)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("on tokens per min (TPM): Limit 30000, Used 29937, Requested 385.", (Sighting("tpm", 30000),)),
        ("on tokens per min (TPM): Limit 30000, Requested 39000.", (Sighting("tpm", 30000),)),
        ("on requests per min (RPM): Limit 3, Used 3, Requested 1.", (Sighting("rpm", 3),)),
        ("on requests per day (RPD): Limit 200, Used 200, Requested 1.", (Sighting("rpd", 200),)),
        ("on tokens per day (TPD): Limit 500,000, Used 499,000", (Sighting("tpd", 500000),)),
        ("service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 9000", (Sighting("tpm", 6000),)),
        ("on requests per min. Limit: 60 / min.", (Sighting("rpm", 60),)),
        ("on input-images per min: Limit 4000, Used 4000.", ()),
        ("your organization's rate limit of 30,000 input tokens per minute (org: 1)", (Sighting("itpm", 30000),)),
        ("would exceed your organization's rate limit of 8,000 output tokens per minute", (Sighting("otpm", 8000),)),
        ("would exceed your organization's rate limit of 50 requests per minute.", (Sighting("rpm", 50),)),
        ("The maximum rate limit for this model is 120 queries per minute.", (Sighting("rpm", 120),)),
        ("a Trial key, which is limited to 20 API calls / minute.", (Sighting("rpm", 20),)),
        ("a Trial key, which is limited to 1000 API calls / month.", ()),
        (
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-08-01-preview have "
            "exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 22 seconds.",
            (Sighting("tpm"),),
        ),
        ("have exceeded call rate limit of your current OpenAI S0 pricing tier.", (Sighting("rpm"),)),
        (GOOGLES, (Sighting("rpd", 20), Sighting("rpm", 10), Sighting("itpm"))),
        (GOOGLES.replace('"', "'"), (Sighting("rpd", 20), Sighting("rpm", 10), Sighting("itpm"))),
        ('"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "0"', (Sighting("rpd"),)),
        ("on tokens per min (TPM): Limit 0, Used 0", ()),
        ("on tokens per min (TPM): Limit 9999999999999999999", ()),
        ("Rate limit exceeded", ()),
        ("", ()),
    ],
)  # fmt: skip
def test_limits_in_a_text_are_read(text: str, seen: tuple[Sighting, ...]) -> None:
    assert sightings_in_text(text.lower()) == seen


@given(st.text() | st.from_regex(r"(on tokens per min: limit |quotaid\": \"|limit of )[0-9,a-z\" ]{0,40}"))
def test_no_text_raises(text: str) -> None:
    for seen in sightings_in_text(text):
        assert seen.limit is None or seen.limit > 0
