"""The headers in which vendors tell an account's limits: the one table, by LiteLLM's names of the vendors.

Each limit is that of the model that was called (Azure: of the deployment; Anthropic: of a group of models; OpenAI: of
the project and model). Vendors that are not in the table tell no limits in headers (Gemini, Vertex AI, Bedrock,
DeepSeek), or in none whose window is documented (Fireworks).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from wallie_litellm.core.dimensions import DayDimension, RateDimension

MINUTE: Final = 60  # seconds
DAY: Final = 86_400  # seconds


class ResetFormat(Enum):
    """How a header says when a limit is whole again."""

    DURATION = "duration"  # as Go writes one: 6m0s, 12ms, 2m59.56s
    SECONDS = "seconds"  # from now: 26, 26.284
    RFC_3339 = "rfc 3339"  # 2026-11-28T12:00:59Z
    UNIX_SECONDS = "unix seconds"
    UNIX_MILLISECONDS = "unix milliseconds"


class LimitHeaders(NamedTuple):
    """The headers that tell one limit, in lower case; empty where the vendor has none.

    ``limit`` is what ``window`` seconds allow, of what ``dimension`` counts. ``remaining`` is given in steps of
    ``rounded_to`` units.
    """

    dimension: RateDimension | DayDimension
    limit: str
    remaining: str
    reset: str = ""
    reset_format: ResetFormat = ResetFormat.DURATION
    window: int = MINUTE
    rounded_to: int = 1


class Vocabulary(NamedTuple):
    """One vendor's headers, and where they are documented or were seen.

    ``until``: a header of answers with status 429 that says when to call again, where ``Retry-After`` may be missing.
    """

    headers: tuple[LimitHeaders, ...]
    source: str
    until: tuple[str, ResetFormat] | None = None


def go_duration(seconds: float) -> str:
    """``seconds`` as Go writes a duration, to the millisecond: ``6m0s``, ``120ms``, ``2m59.56s``."""
    milliseconds = round(max(0.0, seconds) * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _six_names(
    requests: RateDimension | DayDimension, reset_format: ResetFormat | None, *, requests_window: int = MINUTE
) -> tuple[LimitHeaders, ...]:
    """OpenAI's names, which others took over with windows and formats of their own; no format is no reset."""
    return tuple(
        LimitHeaders(
            dimension,
            f"x-ratelimit-limit-{name}",
            f"x-ratelimit-remaining-{name}",
            "" if reset_format is None else f"x-ratelimit-reset-{name}",
            reset_format or ResetFormat.DURATION,
            window,
        )
        for dimension, name, window in ((requests, "requests", requests_window), ("tpm", "tokens", MINUTE))
    )


def _anthropics(dimension: RateDimension, name: str, rounded_to: int = 1) -> LimitHeaders:
    prefix = f"anthropic-ratelimit-{name}"
    return LimitHeaders(
        dimension,
        f"{prefix}-limit",
        f"{prefix}-remaining",
        f"{prefix}-reset",
        ResetFormat.RFC_3339,
        rounded_to=rounded_to,
    )


def _named_by_window(
    dimension: RateDimension | DayDimension, name: str, reset_format: ResetFormat, window: int = MINUTE
) -> LimitHeaders:
    """Names that end with the window."""
    limit, remaining, reset = (f"x-ratelimit-{part}-{name}" for part in ("limit", "remaining", "reset"))
    return LimitHeaders(dimension, limit, remaining, reset, reset_format, window)


_OPENAI: Final = Vocabulary(
    _six_names("rpm", ResetFormat.DURATION),
    "https://platform.openai.com/docs/guides/rate-limits",
)
_AZURE: Final = Vocabulary(
    _six_names("rpm", ResetFormat.SECONDS),
    # remaining-requests is that of a slice of 1 or 10 s: learn.microsoft.com, answers/questions/2156987
    "https://learn.microsoft.com/azure/foundry/openai/how-to/quota",
)

VOCABULARIES: Final[Mapping[str, Vocabulary]] = {
    "openai": _OPENAI,
    "text-completion-openai": _OPENAI,
    "azure": _AZURE,
    "azure_text": _AZURE,
    # Priority Tier (anthropic-priority-*), fast mode (anthropic-fast-*) and subscriptions
    # (anthropic-ratelimit-unified-*) draw on other capacity than the limits of the API: not among these.
    "anthropic": Vocabulary(
        (
            _anthropics("rpm", "requests"),
            _anthropics("tpm", "tokens", 1_000),
            _anthropics("itpm", "input-tokens", 1_000),
            _anthropics("otpm", "output-tokens", 1_000),
        ),
        "https://docs.claude.com/en/api/rate-limits",
    ),
    # Requests are those of a day, tokens those of a minute, always.
    "groq": Vocabulary(
        _six_names("rpd", ResetFormat.DURATION, requests_window=DAY),
        "https://console.groq.com/docs/rate-limits",
    ),
    "mistral": Vocabulary(
        (
            LimitHeaders("rpm", "x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute"),
            LimitHeaders("tpm", "x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute"),
            LimitHeaders(
                "tpm",
                "x-ratelimitbysize-limit-minute",
                "x-ratelimitbysize-remaining-minute",
                "ratelimitbysize-reset",
                ResetFormat.SECONDS,
            ),
        ),
        "mistralai/client-ts#169; the older names: CRAN's tidyllm, api_mistral.R",
    ),
    # Per minute: answers carry 480 requests where the documentation of that time has 480 RPM; a reset was never seen.
    "xai": Vocabulary(_six_names("rpm", None), "https://docs.x.ai/docs/rate-limits (numbers; names: as answered)"),
    "together_ai": Vocabulary(
        (
            LimitHeaders(
                "rpm", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", ResetFormat.SECONDS, window=1
            ),
            LimitHeaders(
                "tpm",
                "x-tokenlimit-limit",
                "x-tokenlimit-remaining",
                "x-tokenlimit-reset",
                ResetFormat.SECONDS,
                window=1,
            ),
        ),
        "https://docs.together.ai/docs/rate-limits (per second)",
        until=("x-ratelimit-reset", ResetFormat.SECONDS),
    ),
    # What its headers limit, requests per minute or per day, is in the text of the answer alone.
    "openrouter": Vocabulary(
        (),
        "https://openrouter.ai/docs/api-reference/limits, cline/cline#5301",
        until=("x-ratelimit-reset", ResetFormat.UNIX_MILLISECONDS),
    ),
    # The window of its x-ratelimit-limit-requests is not documented.
    "gradient_ai": Vocabulary(
        (
            _named_by_window("tpm", "tokens-per-minute", ResetFormat.UNIX_SECONDS),
            _named_by_window("tpd", "tokens-per-day", ResetFormat.UNIX_SECONDS, DAY),
        ),
        "https://docs.digitalocean.com/products/inference/reference/quota-specific-response-headers/",
    ),
    # Limits per hour, which some accounts have too, are no dimension here.
    "cerebras": Vocabulary(
        (
            _named_by_window("rpm", "requests-minute", ResetFormat.SECONDS),
            _named_by_window("rpd", "requests-day", ResetFormat.SECONDS, DAY),
            _named_by_window("tpm", "tokens-minute", ResetFormat.SECONDS),
            _named_by_window("tpd", "tokens-day", ResetFormat.SECONDS, DAY),
        ),
        "https://inference-docs.cerebras.ai/support/rate-limits",
    ),
    # The format of the reset is not documented alike everywhere: left out.
    "sambanova": Vocabulary(
        (
            LimitHeaders("rpm", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
            LimitHeaders("rpd", "x-ratelimit-limit-requests-day", "x-ratelimit-remaining-requests-day", window=DAY),
        ),
        "https://docs.sambanova.ai/docs/en/models/rate-limits",
    ),
}
