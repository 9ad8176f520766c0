"""How long a provider asks its callers to wait, as its headers say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

LONGEST: Final = 86_400.0  # seconds; a mistaken header must not take a provider out of service for ever


def parse_retry_after(headers: Mapping[str, str] | None, wall: float) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` (RFC 9110 10.2.3: seconds or an HTTP date).

    ``wall`` is the present Unix time. ``None`` when there is no usable value; never negative, at most a day.
    """
    if not headers:
        return None
    lowered = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    milliseconds = _number(lowered.get("retry-after-ms") or lowered.get("llm_provider-retry-after-ms"))
    if milliseconds is not None:
        return min(max(0.0, milliseconds / 1000), LONGEST)
    value = lowered.get("retry-after") or lowered.get("llm_provider-retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = _date(value, wall)
    return None if seconds is None else min(max(0.0, seconds), LONGEST)


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
