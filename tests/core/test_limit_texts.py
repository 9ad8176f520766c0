"""What the messages of 429s say of an account's limits."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.core.limit_texts import sightings_in_answer

GOOGLES = (
    '{"error": {"details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": ['
    '{"quotaMetric": "x/generate_content_free_tier_requests", "quotaId": '
    '"GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaDimensions": {"model": "gemini-2.5-flash"}, '
    '"quotaValue": "20"}, {"quotaMetric": "x/generate_content_free_tier_input_token_count", "quotaId": '
    '"GenerateContentInputTokensPerModelPerMinute-FreeTier", "quotaDimensions": {"location": "global"}}, '
    '{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "10"}]}, '
    '{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}]}}'
)


OF_OPENAI = "for gpt-4o in organization org-1"
AZURES = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-08-01-preview have exceeded"
)
ANTHROPICS = "This request would exceed your organization's rate limit of"

MESSAGES: list[tuple[str, tuple[Sighting, ...]]] = [
    (f"Rate limit reached {OF_OPENAI} on tokens per min (TPM): Limit 30000, Used 29937.", (Sighting("tpm", 30000),)),
    (f"Request too large {OF_OPENAI} on tokens per min (TPM): Limit 30000, Requested 39.", (Sighting("tpm", 30000),)),
    (
        "Request too large for gpt-4o (for limit gpt-4o-long) in organization org-1 on tokens per min (TPM): Limit 9",
        (Sighting("tpm", 9),),
    ),
    (f"Rate limit reached {OF_OPENAI} on requests per min (RPM): Limit 3, Used 3, Requested 1.", (Sighting("rpm", 3),)),
    (f"Rate limit reached {OF_OPENAI} on requests per day (RPD): Limit 200, Used 200.", (Sighting("rpd", 200),)),
    (f"Rate limit reached {OF_OPENAI} on tokens per day (TPD): Limit 500,000, Used 4", (Sighting("tpd", 500000),)),
    (
        "Rate limit reached for model `m` in organization `org_1` service tier `on_demand` on tokens per minute (TPM): "
        "Limit 6000, Requested 9000",
        (Sighting("tpm", 6000),),
    ),
    (f"Rate limit reached {OF_OPENAI} on requests per min. Limit: 60 / min.", (Sighting("rpm", 60),)),
    (f"Rate limit reached {OF_OPENAI} on input-images per min: Limit 4000, Used 4000.", ()),
    (f"{ANTHROPICS} 30,000 input tokens per minute (org: 1, model: claude)", (Sighting("itpm", 30000),)),
    (f"{ANTHROPICS} 8,000 output tokens per minute", (Sighting("otpm", 8000),)),
    (f"{ANTHROPICS} 50 requests per minute.", (Sighting("rpm", 50),)),
    (
        "This request would exceed the rate limit for your organization (c26f-ba09) of 30,000 input tokens per minute.",
        (Sighting("itpm", 30000),),
    ),
    ("This request would exceed your account's rate limit. Please try again later.", ()),
    (
        "You have reached the rate limit specific to this model a/b. The maximum rate limit for this model is 120.0 "
        "queries per minute.",
        (Sighting("rpm", 120),),
    ),
    ("You have been rate limited. Your rate limit is 60 queries per minute. Please", (Sighting("rpm", 60),)),
    ("You are using a Trial key, which is limited to 20 API calls / minute.", (Sighting("rpm", 20),)),
    ("You are using a Trial key, which is limited to 1000 API calls / month.", ()),
    (f"{AZURES} token rate limit of your current OpenAI S0 pricing tier. Please retry", (Sighting("tpm"),)),
    (f"{AZURES} call rate limit of your current OpenAI S0 pricing tier.", (Sighting("rpm"),)),
    (
        "Your requests to gpt-5.1 for gpt-5.1 in East US 2 have exceeded the token rate limit for your current "
        "AIServices S0 pricing tier.",
        (Sighting("tpm"),),
    ),
    (f"Rate limit reached {OF_OPENAI} on tokens per min (TPM): Limit 0, Used 0", ()),
    (f"Rate limit reached {OF_OPENAI} on tokens per min (TPM): Limit 9999999999999999999", ()),
    ("Rate limit exceeded", ()),
    ("", ()),
]


@pytest.mark.parametrize(("message", "seen"), MESSAGES)
def test_limits_in_a_vendors_message_are_read(message: str, seen: tuple[Sighting, ...]) -> None:
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": message}}
    wrapped = f"litellm.RateLimitError: OpenAIException - {json.dumps(body)}\nReceived Model Group=a"
    for said in (body, {"message": message}, [body], message, wrapped, str(body), str(json.dumps(body).encode())):
        assert sightings_in_answer(said) == seen
    assert sightings_in_answer(f"litellm.RateLimitError: AnthropicException - {json.dumps(body).encode()!r}") == seen
    assert sightings_in_answer(f"litellm.RateLimitError: RateLimitError: OpenAIException - {message}") == seen
    assert sightings_in_answer({"error": {"message": f"litellm.RateLimitError: XException - {message}"}}) == seen


@pytest.mark.parametrize("message", [message for message, seen in MESSAGES if seen])
@pytest.mark.parametrize(
    "quoting",
    [
        lambda quoted: {"error": {"message": f"Too many requests like: {quoted}"}},
        lambda quoted: {"error": {"message": "Slow down", "request": {"message": quoted}}, "prompt": quoted},
        lambda quoted: {"error": {"message": "Slow down", "details": [{"message": quoted}]}, "choices": [quoted]},
        lambda quoted: {"error": {"message": json.dumps({"error": {"message": quoted}})}},
        lambda quoted: f"litellm.RateLimitError: XException - Slow down, you said: {quoted}",
        lambda quoted: f"litellm.RateLimitError: XException - Slow down 'message': '{quoted}'",
    ],
    ids=range(6),
)
def test_what_a_message_quotes_is_no_limit(message: str, quoting: Callable[[str], object]) -> None:
    assert sightings_in_answer(quoting(message)) == ()


def test_limits_are_read_in_googles_details_alone() -> None:
    seen = (Sighting("rpd", 20), Sighting("itpm"), Sighting("rpm", 10))
    for said in (GOOGLES, GOOGLES.replace('"', "'"), json.loads(GOOGLES), [json.loads(GOOGLES)]):
        assert sightings_in_answer(said) == seen
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "0"}
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation, None, 5]}
    assert sightings_in_answer({"error": {"details": [None, failure]}}) == (Sighting("rpd"),)
    assert sightings_in_answer({"error": {"details": [{**failure, "@type": "x.DebugInfo"}]}}) == ()
    assert sightings_in_answer({"error": {"message": f"You wrote: {GOOGLES}"}}) == ()


JSONS = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "details", "violations", "@type", "quotaId"]), inner)
    ),
    max_leaves=12,
)


BEGINNINGS = r"(litellm\.RateLimitError: |b'|\{\"error\": |rate limit reached for m on )"


@given(JSONS | st.from_regex(BEGINNINGS + r"[0-9,a-z\" {}']{0,40}"))
def test_no_answer_raises(body: object) -> None:
    for seen in sightings_in_answer(body):
        assert seen.limit is None or seen.limit > 0
