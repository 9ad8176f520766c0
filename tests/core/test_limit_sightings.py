"""What headers say of an account's limits, in every vendor's vocabulary."""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.limit_headers import VOCABULARIES, ResetFormat, go_duration
from wallie_litellm.core.limit_sightings import LARGEST, LONGEST, Sighting, date_in, reset_in, sightings_in, wait_in

WALL = 1_790_000_000.0  # Mon, 21 Sep 2026 14:13:20 GMT
NOW = {"date": "Mon, 21 Sep 2026 14:13:20 GMT"}


class Said(NamedTuple):
    """Headers of one vendor, and what they say."""

    vendor: str
    headers: dict[str, str]
    seen: tuple[Sighting, ...]


def openais(requests: tuple[object, ...], tokens: tuple[object, ...] = ()) -> dict[str, str]:
    """OpenAI's six names, with limit, remaining and reset of both."""
    return {
        f"x-ratelimit-{part}-{name}": str(value)
        for name, values in (("requests", requests), ("tokens", tokens))
        for part, value in zip(("limit", "remaining", "reset"), values, strict=False)
    }


def anthropics(name: str, limit: object, remaining: object, reset: object) -> dict[str, str]:
    prefix = f"anthropic-ratelimit-{name}"
    return {f"{prefix}-limit": str(limit), f"{prefix}-remaining": str(remaining), f"{prefix}-reset": str(reset)}


VOCABULARY_CASES = (
    Said(
        "openai",
        openais((5000, 4999, "12ms"), (30000, 29000, "6m0s")),
        (Sighting("rpm", 5000, 4999, 1, 0.012), Sighting("tpm", 30000, 29000, 1, 360.0)),
    ),
    Said(
        "text-completion-openai",
        openais((60, 0, "1s"), (1000, 1, "1h2m")),
        (Sighting("rpm", 60, 0, 1, 1.0), Sighting("tpm", 1000, 1, 1, 3720.0)),
    ),
    Said(
        "azure",
        openais((60, 9, 10), (20000, 19913, 0)),
        (Sighting("rpm", 60, 9, 1, 10.0), Sighting("tpm", 20000, 19913, 1, 0.0)),
    ),
    Said("azure_text", openais((60, 9, 10)), (Sighting("rpm", 60, 9, 1, 10.0),)),
    Said(
        "anthropic",
        {
            **anthropics("requests", 50, 49, "2026-09-21T14:13:21Z"),
            **anthropics("tokens", 38000, 37000, "2026-09-21T14:13:22.5Z"),
            **anthropics("input-tokens", 30000, 30000, "2026-09-21T16:13:20+02:00"),
            **anthropics("output-tokens", 8000, 7000, "2026-09-21T14:14:20Z"),
        },
        (
            Sighting("rpm", 50, 49, 1, 1.0),
            Sighting("tpm", 38000, 37000, 1000, 2.5),
            Sighting("itpm", 30000, 30000, 1000, 0.0),
            Sighting("otpm", 8000, 7000, 1000, 60.0),
        ),
    ),
    # Requests per day, tokens per minute, under OpenAI's names.
    Said(
        "groq",
        openais((14400, 14370, "2m59.56s"), (18000, 17997, "7.66s")),
        (Sighting("rpd", 14400, 14370, 1, pytest.approx(179.56)), Sighting("tpm", 18000, 17997, 1, 7.66)),
    ),
    Said(
        "mistral",
        {
            "x-ratelimit-limit-req-minute": "720",
            "x-ratelimit-remaining-req-minute": "717",
            "x-ratelimit-limit-tokens-minute": "5000000",
            "x-ratelimit-remaining-tokens-minute": "4999911",
            "x-ratelimit-tokens-query-cost": "52",
        },
        (Sighting("rpm", 720, 717), Sighting("tpm", 5000000, 4999911)),
    ),
    Said(
        "mistral",
        {
            "x-ratelimitbysize-limit-minute": "500000",
            "x-ratelimitbysize-remaining-minute": "499900",
            "ratelimitbysize-reset": "51",
        },
        (Sighting("tpm", 500000, 499900, 1, 51.0),),
    ),
    Said(
        "xai",
        openais((480, 479), (2000000, 1999000)),
        (Sighting("rpm", 480, 479), Sighting("tpm", 2000000, 1999000)),
    ),
    # Per second: what is left is left of a second's limit.
    Said(
        "together_ai",
        {
            "x-ratelimit-limit": "10",
            "x-ratelimit-remaining": "9",
            "x-ratelimit-reset": "0.1",
            "x-tokenlimit-limit": "3000",
            "x-tokenlimit-remaining": "2900",
        },
        (Sighting("rpm", 600, 9, 1, 0.1), Sighting("tpm", 180000, 2900)),
    ),
    Said(
        "cerebras",
        {
            "x-ratelimit-limit-requests-day": "14400",
            "x-ratelimit-remaining-requests-day": "13693",
            "x-ratelimit-reset-requests-day": "11726.2840924263",
            "x-ratelimit-limit-tokens-minute": "60000",
            "x-ratelimit-remaining-tokens-minute": "60000",
            "x-ratelimit-reset-tokens-minute": "26.28409242630005",
            "x-ratelimit-limit-requests-minute": "120",
            "x-ratelimit-remaining-requests-minute": "115",
            "x-ratelimit-limit-tokens-day": "720000000",
            "x-ratelimit-limit-requests-hour": "60000",
        },
        (
            Sighting("rpm", 120, 115),
            Sighting("rpd", 14400, 13693, 1, 11726.2840924263),
            Sighting("tpm", 60000, 60000, 1, 26.28409242630005),
            Sighting("tpd", 720000000),
        ),
    ),
    Said(
        "sambanova",
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-limit-requests-day": "12000",
            "x-ratelimit-remaining-requests-day": "11999",
        },
        (Sighting("rpm", 60, 59), Sighting("rpd", 12000, 11999)),
    ),
    Said(
        "gradient_ai",
        {
            "x-ratelimit-limit-requests": "120",
            "x-ratelimit-limit-tokens-per-minute": "40000",
            "x-ratelimit-remaining-tokens-per-minute": "39000",
            "x-ratelimit-reset-tokens-per-minute": "1790000030",
            "x-ratelimit-limit-tokens-per-day": "1000000",
            "x-ratelimit-remaining-tokens-per-day": "999000",
            "x-ratelimit-reset-tokens-per-day": "1789999999",
        },
        (Sighting("tpm", 40000, 39000, 1, 30.0), Sighting("tpd", 1000000, 999000, 1, 0.0)),
    ),
    Said("openrouter", {"x-ratelimit-limit": "20", "x-ratelimit-reset": "1790000007000"}, ()),
)

MALFORMED_CASES = (
    # Azure's Responses, and limits that say nothing.
    Said("azure", openais((-1, -1, 0), (-1, -1, 0)), ()),
    Said("openai", openais((0, 0, "0s"), (0, 0, "0s")), ()),
    Said("openai", openais(("inf", 5, "1s"), ("nan", 5, "1s")), ()),
    Said("openai", openais((LARGEST + 1, 5, "1s"), ("9" * 5000, 5, "1s")), ()),
    Said("openai", openais(("", 5, "1s"), ("unlimited", 5, "1s")), ()),
    Said("openai", openais(("٣٠", 5, "1s"), ("1_000", 5, "1s")), ()),
    Said("openai", openais(("+60", 5, "1s"), ("0x10", 5, "1s")), ()),
    Said("openai", {"x-ratelimit-remaining-requests": "5"}, ()),
    # A limit counts, whatever stands beside it.
    Said("openai", openais((60, -1, "-1s")), (Sighting("rpm", 60),)),
    Said("openai", openais((60, "", "")), (Sighting("rpm", 60),)),
    Said("openai", openais((60, "²", "soon")), (Sighting("rpm", 60),)),
    Said("openai", openais((60, "9" * 400, "9" * 400 + "h")), (Sighting("rpm", 60),)),
    Said("openai", openais((60, 1e300, "1e300s")), (Sighting("rpm", 60),)),
    Said("openai", openais((60, "5.9", "1000000000h")), (Sighting("rpm", 60, 5, 1, LONGEST),)),
    Said("openai", openais((" 60 ", " 5", " 7s")), (Sighting("rpm", 60, 5, 1, 7.0),)),
    Said("openai", openais(("60.0", "5", "7")), (Sighting("rpm", 60, 5),)),
    # Twice the same is that; two different values are none.
    Said("openai", openais(("60, 60", "5, 5", "1s, 1s")), (Sighting("rpm", 60, 5, 1, 1.0),)),
    Said("openai", openais(("60, 61", "5", "1s"), (1000, "5, 6", "1s, 2s")), (Sighting("tpm", 1000),)),
    Said("anthropic", anthropics("requests", 50, 49, "2026-09-21T14:13:21"), (Sighting("rpm", 50, 49),)),
    Said("anthropic", anthropics("requests", 50, 49, "2026-13-45T99:00:00Z"), (Sighting("rpm", 50, 49),)),
    Said("anthropic", anthropics("requests", 50, 49, "0001-01-01T00:00:00Z"), (Sighting("rpm", 50, 49, 1, 0.0),)),
    Said("anthropic", anthropics("requests", 50, 49, "9999-12-31T23:59:59Z"), (Sighting("rpm", 50, 49, 1, LONGEST),)),
    # Two names for one limit: the smaller holds.
    Said(
        "mistral",
        {"x-ratelimit-limit-tokens-minute": "900", "x-ratelimitbysize-limit-minute": "500"},
        (Sighting("tpm", 500),),
    ),
)


@pytest.mark.parametrize("prefix", ["", "llm_provider-", "LLM_Provider-"])
def test_every_vocabulary_and_every_malformed_value_is_read(prefix: str) -> None:
    for said in (*VOCABULARY_CASES, *MALFORMED_CASES):
        headers = {prefix + name.title(): value for name, value in {**said.headers, **NOW}.items()}
        assert sightings_in(VOCABULARIES[said.vendor], headers, WALL + 900) == said.seen, said
    assert {said.vendor for said in VOCABULARY_CASES} == set(VOCABULARIES)


@pytest.mark.parametrize(
    ("reset_format", "text", "seconds"),
    [
        (ResetFormat.DURATION, "6m0s", 360.0),
        (ResetFormat.DURATION, "12ms", 0.012),
        (ResetFormat.DURATION, "1h2m", 3720.0),
        (ResetFormat.DURATION, "26.5", None),
        (ResetFormat.DURATION, "-5s", None),
        (ResetFormat.DURATION, "1m 30s", None),
        (ResetFormat.SECONDS, "26", 26.0),
        (ResetFormat.SECONDS, "26.28", 26.28),
        (ResetFormat.SECONDS, "6m0s", None),
        (ResetFormat.SECONDS, "-1", None),
        (ResetFormat.RFC_3339, "2026-09-21T14:13:50Z", 30.0),
        (ResetFormat.RFC_3339, "2026-09-21T14:13:50.25+00:00", 30.25),
        (ResetFormat.RFC_3339, "2026-09-21T14:00:00Z", 0.0),
        (ResetFormat.RFC_3339, "30", None),
        (ResetFormat.UNIX_SECONDS, "1790000030", 30.0),
        (ResetFormat.UNIX_SECONDS, "30", 0.0),
        (ResetFormat.UNIX_MILLISECONDS, "1790000030500", 30.5),
        (ResetFormat.UNIX_MILLISECONDS, "-1790000030500", None),
        (ResetFormat.UNIX_MILLISECONDS, "", None),
    ],
)
def test_resets_are_read_in_the_vendors_own_format(reset_format: ResetFormat, text: str, seconds: float | None) -> None:
    assert reset_in(reset_format, text, WALL) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.12, "120ms"), (1, "1s"), (179.56, "2m59.56s"), (360, "6m0s"), (3720, "1h2m0s"), (-1, "0s")],
)
def test_a_duration_is_written_as_it_is_read(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
    assert reset_in(ResetFormat.DURATION, text, WALL) == pytest.approx(max(0.0, seconds))


def test_the_wait_of_a_429_is_read_where_a_vendor_has_a_header_of_its_own_for_it() -> None:
    reset = {"X-RateLimit-Reset": "1790000007000"}
    assert wait_in(VOCABULARIES["openrouter"], reset, WALL) == 7.0
    assert wait_in(VOCABULARIES["together_ai"], {"x-ratelimit-reset": "3"}, WALL) == 3.0
    assert wait_in(VOCABULARIES["together_ai"], {}, WALL) is None
    assert wait_in(VOCABULARIES["openai"], {"x-ratelimit-reset-requests": "3s"}, WALL) is None


@pytest.mark.parametrize("text", [None, "", "today", "Mon, 21 Sep 2026 14:13:20 CET", "Mon, 99 Xyz 2026 14:13:20 GMT"])
def test_what_is_no_date_is_none(text: str | None) -> None:
    assert date_in(text) is None
    assert date_in(NOW["date"]) == WALL


VALUES = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[0-9hmsT:Z.+,-]{0,30}", fullmatch=True),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "0", "-1", "inf", "1e999", "9" * 5000, "1s" * 40, "2026-09-21T14:13:20Z", "60, 60"]),
)
NAMES = sorted({name for each in VOCABULARIES.values() for names in each.headers for name in names[1:4] if name})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(VOCABULARIES)), st.dictionaries(st.sampled_from([*NAMES, "date"]), VALUES))
def test_no_headers_raise_or_give_a_negative_or_infinite_value(vendor: str, headers: dict[str, str]) -> None:
    vocabulary = VOCABULARIES[vendor]
    for seen in sightings_in(vocabulary, headers, WALL):
        assert seen.limit is not None
        assert 0 < seen.limit <= LARGEST
        assert seen.remaining is None or 0 <= seen.remaining <= LARGEST
        assert seen.reset_in is None or (isfinite(seen.reset_in) and 0 <= seen.reset_in <= LONGEST)
    wait = wait_in(vocabulary, headers, WALL)
    assert wait is None or 0 <= wait <= LONGEST
