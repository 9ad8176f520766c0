"""What the body of an answer with status 429 says of an account's limits.

Only the vendor's own message counts, and only from its beginning on, in a shape that a vendor documents: servers quote
prompts in their messages, and prompts may speak of limits.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from wallie_litellm.core.limit_sightings import LARGEST, Sighting

_LONGEST: Final = 8_000  # characters of a text that are read
_DEEPEST: Final = 5  # levels of a body that are looked into
_MOST_VIOLATIONS: Final = 50  # of an answer, that are read

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

# OpenAI: "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used 29937,
# Requested 385." and "Request too large for gpt-4o (for limit gpt-4o-long) in organization org-1 on ...", earlier
# "... on requests per min. Limit: 60 / min."; Groq names the model in backquotes, and the service tier.
_OPENAIS: Final = re.compile(
    r"(?:rate limit reached|request too large) for (?:model )?\S{1,200}(?: \(for limit \S{1,200}\))?"
    r"(?: in (?:organization|project) \S{1,100})*(?: service tier \S{1,60})?"
    r" on ((?:input |output )?tokens|requests) per (minute|min|day)(?: \([a-z]+\))?[:.] *limit:? *([0-9][0-9,]{0,18})"
)
_AMOUNT: Final = r"([0-9][0-9,]{0,18})(?:\.[0-9]+)?"
_SHAPES: Final = tuple(
    re.compile(text)
    for text in (
        # Anthropic: "This request would exceed your organization's rate limit of 30,000 input tokens per minute", and
        # "... the rate limit for your organization (id) of 50 requests per minute".
        r"this request would exceed (?:your (?:organization|account)'s|the) rate limit"
        rf"(?: for your (?:organization|account)(?: \([^() ]{{0,100}}\))?)? of {_AMOUNT}"
        r" ((?:input |output )?tokens|requests) per (minute|day)\b",
        # Together, and what it says of an account.
        r"you have reached the rate limit specific to this model \S{1,200} the maximum rate limit for this model is"
        rf" {_AMOUNT} (queries) per (minute)\b",
        rf"you have been rate limited\. your rate limit is {_AMOUNT} (queries) per (minute)\b",
        # Cohere: "You are using a Trial key, which is limited to 20 API calls / minute."
        rf"you are using a trial key, which is limited to {_AMOUNT} (api calls) / (minute|day)\b",
    )
)
# Azure: "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token
# rate limit of your current OpenAI S0 pricing tier", "Your requests to gpt-5.1 for gpt-5.1 in East US 2 have exceeded
# the token rate limit for your current AIServices S0 pricing tier".
_AZURES: Final = re.compile(
    r"(?:your )?requests to [\w .:-]{1,300} have exceeded (?:the )?(token|call) rate limit (?:of|for) your "
)
# Google's details: a QuotaFailure with, in each violation, the quota's name and its value.
_QUOTA_FAILURE: Final = "google.rpc.QuotaFailure"
_QUOTA_NAMES: Final[Mapping[str, str]] = {  # in this order: a name of input tokens has "tokens" too
    "inputtokens": "input tokens",
    "outputtokens": "output tokens",
    "requests": "requests",
}

# What LiteLLM writes before a vendor's answer: "litellm.RateLimitError: OpenAIException - Error code: 429 - ".
_LITELLMS: Final = re.compile(r"(?:(?:litellm\.)?\w{0,60}(?:Error|Exception):? (?:- )?)+(?:Error code: [0-9]{3} - )?")
_BYTES: Final = re.compile(r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def sightings_in_answer(body: object) -> tuple[Sighting, ...]:
    """The limits that an answer names, one sighting a dimension; those without an amount too. Never raises.

    ``body`` is the answer's JSON, parsed, or text: the vendor's, or LiteLLM's with the vendor's in it. A limit of zero
    is left out: the model is not on the account's plan, which is no amount to keep to.
    """
    found: dict[str, Sighting] = {}
    _read(found, body, 0)
    return tuple(found.values())


def _read(found: dict[str, Sighting], body: object, depth: int) -> None:
    """Read an answer, or a part of it that has the vendor's message."""
    if depth > _DEEPEST:
        return
    if isinstance(body, str):
        said = _unwrapped(body[:_LONGEST], is_whole=depth == 0)
        if isinstance(said, str):
            _read_message(found, said.lower())
        else:
            _read(found, said, depth + 1)
    elif isinstance(body, list) and body:  # as Google's OpenAI-compatible API answers
        _read(found, body[0], depth + 1)
    elif isinstance(body, Mapping):
        for key in ("error", "message"):
            _read(found, body.get(key), depth + 1)
        _read_details(found, body.get("details"))


def _unwrapped(text: str, *, is_whole: bool) -> object:
    """The vendor's answer in what LiteLLM has made of it; ``text`` itself where it is a message."""
    prefix = _LITELLMS.match(text)
    if prefix is not None:
        text = text[prefix.end() :]
    elif not is_whole:
        return text
    text = text.strip()
    try:
        if (quoted := _BYTES.match(text)) is not None:
            text = ast.literal_eval(quoted[0]).decode(errors="replace").strip()
        if not text.startswith(("{", "[")):
            return text
        try:
            return json.JSONDecoder().raw_decode(text)[0]
        except ValueError:  # as Python writes it
            return ast.literal_eval(text[: max(text.rfind("}"), text.rfind("]")) + 1])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _read_message(found: dict[str, Sighting], message: str) -> None:
    if (said := _OPENAIS.match(message)) is not None:
        _add(found, said[1], said[2], said[3])
    for shape in _SHAPES:
        if (said := shape.match(message)) is not None:
            _add(found, _KINDS.get(said[2], said[2]), said[3], said[1])
    if (said := _AZURES.match(message)) is not None:
        _add(found, "tokens" if said[1] == "token" else "requests", "minute", None)


def _read_details(found: dict[str, Sighting], details: object) -> None:
    failures = [
        one
        for one in (details if isinstance(details, list) else ())
        if isinstance(one, Mapping) and str(one.get("@type")).endswith(_QUOTA_FAILURE)
    ]
    for failure in failures:
        violations = failure.get("violations")
        for one in violations[:_MOST_VIOLATIONS] if isinstance(violations, list) else ():
            if isinstance(one, Mapping):
                _read_violation(found, one)


def _read_violation(found: dict[str, Sighting], violation: Mapping[Any, Any]) -> None:
    """One quota of Google's: what it counts, and its window, such as ``GenerateRequestsPerDayPerProject-FreeTier``."""
    name, value = str(violation.get("quotaId"))[:200].lower(), str(violation.get("quotaValue"))
    kind = next((kind for part, kind in _QUOTA_NAMES.items() if part in name), "")
    window = "day" if "perday" in name else "minute" if "perminute" in name else ""
    if re.fullmatch(r"[0-9]{1,15}", value):
        _add(found, kind, window, value)
    _add(found, kind, window, None)


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
