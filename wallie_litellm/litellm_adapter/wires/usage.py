"""The tokens in a reported usage, in the shape of any wire, and the usage that a stream has reported so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import litellm

from wallie_litellm.core.demand import Demand
from wallie_litellm.litellm_adapter.wires.fields import value_of

PLAUSIBLE_TOKENS: Final = 10**9  # tokens of one call: a report of more is wrong
# Anthropic counts the tokens of its prompt cache apart from input_tokens.
_APART: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")


def tokens_of(usage: Any) -> Demand | None:
    """The tokens of a reported usage, including those read from or written to the provider's prompt cache."""
    if isinstance(usage, litellm.Usage) and usage.total_tokens > 0:  # the usual case, without any lookup by name
        return Demand(1, usage.total_tokens, usage.prompt_tokens, usage.completion_tokens)
    tokens_in = value_of(usage, "prompt_tokens")
    tokens_out = value_of(usage, "completion_tokens")
    if tokens_in is None:
        tokens_in, tokens_out = value_of(usage, "input_tokens"), value_of(usage, "output_tokens")
        apart = sum(_count(value_of(usage, name)) for name in _APART)
        tokens_in = tokens_in + apart if isinstance(tokens_in, int) else tokens_in
    if not isinstance(tokens_in, int) or not 0 <= tokens_in <= PLAUSIBLE_TOKENS:
        return None
    tokens_out = _count(tokens_out)
    total = _count(value_of(usage, "total_tokens")) or tokens_in + tokens_out
    return Demand(1, total, tokens_in, tokens_out) if 0 < total <= PLAUSIBLE_TOKENS else None


def cached_tokens(usage: Any) -> int:
    """The prompt tokens that were read from the provider's cache."""
    if isinstance(usage, litellm.Usage):
        details = usage.prompt_tokens_details
    else:
        details = value_of(usage, "prompt_tokens_details") or value_of(usage, "input_tokens_details")
    read = value_of(details, "cached_tokens") if details is not None else value_of(usage, "cache_read_input_tokens")
    return _count(read)


def details_of(usage: Any) -> tuple[int, int, int]:
    """The tokens read from the vendor's cache, those written into it, and the output tokens spent on reasoning."""
    if not isinstance(usage, litellm.Usage):
        written = value_of(usage, "cache_creation_input_tokens")
        output = value_of(usage, "completion_tokens_details") or value_of(usage, "output_tokens_details")
        return cached_tokens(usage), _count(written), _count(value_of(output, "reasoning_tokens"))
    prompt, output = usage.prompt_tokens_details, usage.completion_tokens_details
    if prompt is None:
        read, written = value_of(usage, "cache_read_input_tokens"), None
    else:
        fields = vars(prompt)  # LiteLLM deletes what is not reported, and its models take long to say that
        read, written = fields.get("cached_tokens"), fields.get("cache_creation_tokens")
    written = written or value_of(usage, "cache_creation_input_tokens")
    reasoning = None if output is None else vars(output).get("reasoning_tokens")
    return _count(read), _count(written), _count(reasoning)


class UsageSoFar:
    """What a stream has reported: the last plausible report, and of mappings their sum, field by field."""

    def __init__(self) -> None:
        self.raw: Any = None
        self.tokens: Demand | None = None  # the tokens of `raw`

    def note(self, usage: Any) -> None:
        """Take in one report, which may say less than an earlier one: Anthropic reports input and output apart."""
        if usage is None:
            return
        if isinstance(usage, Mapping):
            known = self.raw if isinstance(self.raw, Mapping) else {}
            usage = {**known, **{name: value for name, value in usage.items() if value is not None}}
        tokens = tokens_of(usage)
        if tokens is not None:
            self.raw, self.tokens = usage, tokens


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
