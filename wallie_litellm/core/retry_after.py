"""How long a provider asks its callers to wait, as its headers or the text of its answer say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

LONGEST: Final = 86_400.0  # seconds; a mistaken header must not take a provider out of service for ever

_MILLISECONDS: Final = ("retry-after-ms", "x-ms-retry-after-ms")  # OpenAI's and Azure's headers
_LITELLMS: Final = "llm_provider-"  # before a provider's header in LiteLLM's responses
_UNITS: Final[Mapping[str, float]] = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}  # seconds of each
_PART: Final = r"\d+(?:\.\d+)?(?:ms|h|m|s)"
_DURATION: Final = re.compile(rf"(?:{_PART})+")  # as Go writes one: 1m30s, 644ms
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
# "Please retry in 13.403s", "Please try again in 7m12s", "retry after 7 seconds", and google.rpc.RetryInfo.
_IN_TEXT: Final = re.compile(
    rf'(?:(?:try again|retry)(?: in| after)|"retrydelay":) *"?(?:((?:{_PART})+)|(\d+(?:\.\d+)?) *(second|minute|hour))'
)
_WORDS: Final[Mapping[str, float]] = {"second": 1.0, "minute": 60.0, "hour": 3600.0}  # seconds of each
_UNTIL: Final = re.compile(r"regain access on (\d{4}-\d\d-\d\d) at (\d\d:\d\d) utc")  # Anthropic's limits of spending


def parse_retry_after(headers: Mapping[str, str] | None, wall: float) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After``: seconds, a duration or an HTTP date.

    RFC 9110 10.2.3 has seconds and dates. ``wall`` is the present Unix time. ``None`` when there is no usable value;
    never negative, at most a day.
    """
    if not headers:
        return None
    lowered = {str(name).lower().removeprefix(_LITELLMS): str(value).strip() for name, value in headers.items()}
    for name in _MILLISECONDS:
        milliseconds = _number(lowered.get(name))
        if milliseconds is not None:
            return _bounded(milliseconds / 1000)
    value = lowered.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = parse_duration(value)
    if seconds is None:
        seconds = _date(value, wall)
    return None if seconds is None else _bounded(seconds)


def parse_wait_in_text(text: str, wall: float) -> float | None:
    """The longest wait that an answer's ``text``, in lower case, asks for, in seconds; bounded as that of a header."""
    waits = [
        parse_duration(duration) if duration else float(number) * _WORDS[unit]
        for duration, number, unit in _IN_TEXT.findall(text)
    ]
    for day, time in _UNTIL.findall(text):
        try:
            waits.append(datetime.fromisoformat(f"{day}T{time}+00:00").timestamp() - wall)
        except ValueError:  # no such day
            continue
    return max((_bounded(wait) for wait in waits if wait is not None), default=None)


def parse_duration(text: str) -> float | None:
    """Seconds of a duration as Go writes it (``1m30s``, ``644ms``); ``None`` for anything else."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(amount) * _UNITS[unit] for amount, unit in _AMOUNT.findall(text))


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) else None


def _date(text: str, wall: float) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return (date - datetime.fromtimestamp(wall, UTC)).total_seconds()
