"""The rate-limit headers of an answer, written as its vendor's vocabulary has them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from wallie_litellm.core.limit_headers import VOCABULARIES, ResetFormat
from wallie_litellm.simulator.limits import LimitName, Meters

_SECONDS: Final = {"m": 60, "d": 86_400}  # the window of a limit, by the last letter of its name
_FRACTIONS: Final = frozenset({"cerebras"})  # vendors whose seconds have decimals


def limit_headers(vendor: str, meters: Meters, now: datetime) -> dict[str, str]:
    """The headers for ``meters``; none where the vendor's vocabulary has none. Of two names the first is used."""
    headers: dict[str, str] = {}
    written: set[LimitName] = set()
    for names in VOCABULARIES[vendor].headers if vendor in VOCABULARIES else ():
        meter = meters.get(names.dimension)
        if meter is None or names.dimension in written:
            continue
        written.add(names.dimension)
        # Together tells per second what it limits per minute.
        part = names.window / _SECONDS[names.dimension[-1]]
        headers[names.limit] = str(math.ceil(meter.limit * part))
        headers[names.remaining] = str(_rounded(math.floor(meter.remaining * part), names.rounded_to))
        if names.reset:
            # Rounded up: a whole second that is already over would promise too much.
            exact = names.reset_format is ResetFormat.DURATION or vendor in _FRACTIONS
            seconds = meter.reset_after if exact else math.ceil(meter.reset_after)
            headers[names.reset] = _reset(names.reset_format, seconds, now)
    return headers


def duration(seconds: float) -> str:
    """A duration as OpenAI and Groq write it: ``6ms``, ``1.2s``, ``2m59.56s``, ``1h0m0s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours:.0f}h{minutes:.0f}m{text}"
    return f"{minutes:.0f}m{text}" if minutes else text


def _rounded(amount: int, step: int) -> int:
    """To the nearest step, half of one upwards."""
    return (amount + step // 2) // step * step


def _reset(how: ResetFormat, seconds: float, now: datetime) -> str:
    at = now + timedelta(seconds=seconds)
    match how:
        case ResetFormat.DURATION:
            return duration(seconds)
        case ResetFormat.SECONDS:
            return f"{seconds:g}"
        case ResetFormat.RFC_3339:
            return at.strftime("%Y-%m-%dT%H:%M:%SZ")
        case ResetFormat.UNIX_SECONDS:
            return f"{at.timestamp():.0f}"
        case ResetFormat.UNIX_MILLISECONDS:
            return f"{at.timestamp() * 1000:.0f}"
