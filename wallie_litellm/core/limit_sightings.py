"""What an answer's headers say of an account's limits, read by the vendor's vocabulary.

Headers may come under LiteLLM's prefix. A value that is malformed, negative, infinite or larger than any limit says
nothing, and so does a limit of zero, with all that belongs to it: Azure sends -1, -1 and 0 for its Responses.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite
from typing import Final, NamedTuple

from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.core.limit_headers import DAY, MINUTE, LimitHeaders, ResetFormat, Vocabulary
from wallie_litellm.core.retry_after import LONGEST as LONGEST_WAIT
from wallie_litellm.core.retry_after import parse_duration

LITELLMS: Final = "llm_provider-"  # before a vendor's header in LiteLLM's responses
LARGEST: Final = 10**12  # units; a larger number stands for no limit
LONGEST: Final = 31 * 86_400.0  # seconds until a limit is whole again; a longer time is a mistake

_NUMBER: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_MONTHS: Final[Mapping[str, int]] = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT")


class Sighting(NamedTuple):
    """What an answer says of one limit: of what ``dimension`` counts, ``limit`` is allowed and ``remaining`` is left.

    ``limit`` is for the dimension's own window; ``remaining`` for the vendor's, in steps of ``rounded_to``.
    ``reset_in`` are seconds until all of it is free again. What is not said is ``None``.
    """

    dimension: str
    limit: int | None = None
    remaining: int | None = None
    rounded_to: int = 1
    reset_in: float | None = None


def sightings_in(vocabulary: Vocabulary, headers: Mapping[str, str], wall: float) -> tuple[Sighting, ...]:
    """What ``headers`` say, one sighting a dimension: of two, that of the smaller limit. ``wall`` is the Unix time."""
    lowered = plain(headers)
    now = date_in(lowered.get("date")) or wall
    found: dict[str, Sighting] = {}
    for names in vocabulary.headers:
        limit = limit_in(names, lowered.get(names.limit))
        if limit is None:
            continue
        reset = lowered.get(names.reset) if names.reset else None
        seen = Sighting(
            names.dimension,
            limit,
            remaining_in(lowered.get(names.remaining)),
            names.rounded_to,
            None if reset is None else reset_in(names.reset_format, reset, now),
        )
        other = found.get(names.dimension)
        if other is None or limit < (other.limit or limit):
            found[names.dimension] = seen
    return tuple(found.values())


def wait_in(vocabulary: Vocabulary, headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds after which to call again, a day at most, where a vendor says so in a header of its own."""
    if vocabulary.until is None:
        return None
    name, reset_format = vocabulary.until
    value = plain(headers).get(name)
    wait = None if value is None else reset_in(reset_format, value, wall)
    return None if wait is None else min(wait, LONGEST_WAIT)


def plain(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers by their own names, in lower case."""
    return {str(name).lower().removeprefix(LITELLMS): str(value) for name, value in headers.items()}


def window_of(dimension: str) -> int:
    """The seconds of which a limit in ``dimension`` is one."""
    return DAY if dimension in DAY_DIMENSIONS else MINUTE


def limit_in(names: LimitHeaders, text: str | None) -> int | None:
    """The limit that a header tells, for the window of its dimension."""
    amount = _amount(text)
    if amount is None:
        return None
    whole = int(amount * window_of(names.dimension) / names.window)
    return whole if 0 < whole <= LARGEST else None


def remaining_in(text: str | None) -> int | None:
    """The units that a header says are left."""
    if text is not None and len(text) < 13 and text.isascii() and text.isdecimal():  # as good as always
        return int(text)
    amount = _amount(text)
    return None if amount is None or amount > LARGEST else int(amount)


def reset_in(reset_format: ResetFormat, text: str, now: float) -> float | None:
    """Seconds until a limit is whole again; ``now`` is the Unix time at which the vendor answered."""
    text = _sole(text)
    try:
        seconds = _RESETS[reset_format](text, now)
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST) if seconds is not None and isfinite(seconds) else None


def date_in(text: str | None) -> float | None:
    """The Unix time of an answer's ``Date``."""
    found = _DATE.fullmatch(text) if text is not None else None
    if found is None or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    try:
        return float(timegm((year, _MONTHS[found[2]], day, hour, minute, second)))
    except (ValueError, OverflowError):
        return None


def _sole(text: str) -> str:
    """One value; of a header that came more than once, with the same value, that value."""
    if "," not in text:
        return text.strip()
    values = {part.strip() for part in text.split(",")}
    return values.pop() if len(values) == 1 else ""


def _amount(text: str | None) -> float | None:
    if text is None:
        return None
    found = _NUMBER.fullmatch(_sole(text))
    return None if found is None else float(found[0])


def _seconds(text: str, _now: float) -> float | None:
    return _amount(text)


def _duration(text: str, _now: float) -> float | None:
    return parse_duration(text) if len(text) < 64 and text.isascii() else None


def _rfc_3339(text: str, now: float) -> float | None:
    if len(text) > 40 or not text.isascii():
        return None
    at = datetime.fromisoformat(text)
    return None if at.tzinfo is None else at.timestamp() - now


def _unix_seconds(text: str, now: float) -> float | None:
    at = _amount(text)
    return None if at is None else at - now


def _unix_milliseconds(text: str, now: float) -> float | None:
    at = _amount(text)
    return None if at is None else at / 1000 - now


_RESETS: Final[Mapping[ResetFormat, Callable[[str, float], float | None]]] = {
    ResetFormat.DURATION: _duration,
    ResetFormat.SECONDS: _seconds,
    ResetFormat.RFC_3339: _rfc_3339,
    ResetFormat.UNIX_SECONDS: _unix_seconds,
    ResetFormat.UNIX_MILLISECONDS: _unix_milliseconds,
}
