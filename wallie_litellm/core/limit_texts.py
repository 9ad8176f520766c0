"""What the text of an answer with status 429 says of an account's limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from wallie_litellm.core.limit_sightings import LARGEST, Sighting

_LONGEST: Final = 8_000  # characters that are read

_DIMENSIONS: Final[Mapping[tuple[str, str], str]] = {
    ("requests", "minute"): "rpm",
    ("tokens", "minute"): "tpm",
    ("input tokens", "minute"): "itpm",
    ("output tokens", "minute"): "otpm",
    ("requests", "day"): "rpd",
    ("tokens", "day"): "tpd",
}
_KINDS: Final[Mapping[str, str]] = {"queries": "requests", "api calls": "requests", "call": "requests"}
_WINDOWS: Final[Mapping[str, str]] = {"min": "minute"}

# OpenAI, Groq: "on tokens per min (TPM): Limit 30000, Used 29937, Requested 385", "on requests per day. Limit: 200".
_OPENAIS: Final = re.compile(
    r"\bon ((?:input |output )?tokens|requests) per (minute|min|day)(?: \([a-z]+\))?[:.] *limit:? *([0-9][0-9,]{0,18})"
)
# Anthropic: "rate limit of 30,000 input tokens per minute"; Together: "is 120 queries per minute"; Cohere: "limited to
# 20 API calls / minute".
_AMOUNT_PER: Final = re.compile(
    r"\b(?:limit of|limited to|limit is|for this model is) ([0-9][0-9,]{0,18})"
    r" ((?:input |output )?tokens|requests|queries|api calls) (?:per|/) (minute|day)\b"
)
# Google's QuotaFailure: a quota's name and, in the same violation, its value.
_QUOTA: Final = re.compile(
    r"""quotaid["']: *["']([a-z0-9-]{1,120})["'](?:(?!quotaid).){0,600}?quotavalue["']: *["']([0-9]{1,15})["']""",
    re.DOTALL,
)
_QUOTA_ALONE: Final = re.compile(r"""quotaid["']: *["']([a-z0-9-]{1,120})["']""")
_QUOTA_NAMES: Final[Mapping[str, str]] = {  # in this order: a name of input tokens has "tokens" too
    "inputtokens": "input tokens",
    "outputtokens": "output tokens",
    "requests": "requests",
}
# Azure: "have exceeded token rate limit of your current OpenAI S0 pricing tier", "exceeded call rate limit".
_AZURES: Final = re.compile(r"exceeded (token|call) rate limit of your current")


def sightings_in_text(text: str) -> tuple[Sighting, ...]:
    """The limits that a ``text``, in lower case, names, one sighting a dimension; those without an amount too.

    A limit of zero is left out: the model is not on the account's plan, which is no amount to keep to.
    """
    text = text[:_LONGEST]
    found: dict[str, Sighting] = {}
    for kind, window, amount in _OPENAIS.findall(text):
        _add(found, kind, window, amount)
    for amount, kind, window in _AMOUNT_PER.findall(text):
        _add(found, _KINDS.get(kind, kind), window, amount)
    for name, amount in _QUOTA.findall(text):
        _add(found, *_of_quota(name), amount)
    for name in _QUOTA_ALONE.findall(text):
        _add(found, *_of_quota(name), None)
    for kind in _AZURES.findall(text):
        _add(found, "tokens" if kind == "token" else "requests", "minute", None)
    return tuple(found.values())


def _add(found: dict[str, Sighting], kind: str, window: str, amount: str | None) -> None:
    dimension = _DIMENSIONS.get((kind, _WINDOWS.get(window, window)))
    if dimension is None:
        return
    if amount is None:
        found.setdefault(dimension, Sighting(dimension))
        return
    limit = int(amount.replace(",", ""))
    if not 0 < limit <= LARGEST:
        return
    known = found.get(dimension)
    if known is None or known.limit is None or limit < known.limit:
        found[dimension] = Sighting(dimension, limit)


def _of_quota(name: str) -> tuple[str, str]:
    """What a quota of Google's counts, and its window: ``GenerateRequestsPerDayPerProjectPerModel-FreeTier``."""
    kind = next((kind for part, kind in _QUOTA_NAMES.items() if part in name), "")
    window = "day" if "perday" in name else "minute" if "perminute" in name else ""
    return kind, window
