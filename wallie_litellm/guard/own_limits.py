"""The headers in which OpenAI tells its callers their limits, with the limits that a request has passed here.

Names and forms are those of https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers". LiteLLM
sends a vendor's under the same names, and under them with ``llm_provider-`` before, which stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import floor
from typing import Final

from wallie_litellm.core.limit_headers import go_duration
from wallie_litellm.guard.context import RequestContext
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.limiter.store import LimitUsage

PREFIX: Final = "x-ratelimit-"
_COUNTED: Final = {"requests": "rpm", "tokens": "tpm"}  # what a header counts, and the dimension that does


def own_limits(limiters: LimiterRegistry, context: RequestContext) -> dict[str, float | str]:
    """The headers of the limits that an answer's request has passed.

    Of several, such as the account's, the model's and the feature's, it is the one of which least is left.
    """
    headers: dict[str, float | str] = {}
    passed = list(_passed(limiters, context))
    for counted, dimension in _COUNTED.items():
        usages = [usage[dimension] for usage in passed if dimension in usage]
        if usages:
            least = min(usages, key=lambda usage: usage.left)
            headers[f"{PREFIX}limit-{counted}"] = least.limit
            headers[f"{PREFIX}remaining-{counted}"] = max(0, floor(least.left))
            headers[f"{PREFIX}reset-{counted}"] = go_duration(least.reset_in)
    return headers


def _passed(limiters: LimiterRegistry, context: RequestContext) -> Iterator[dict[str, LimitUsage]]:
    """The limits of the provider that has answered, of its model, and of the request's feature, by dimension."""
    served = context.served_by
    if served is not None and served.provider:
        state = limiters.provider(served.provider).state()
        yield state.usage
        own = state.models.get(limiters.pattern_of(served.scope))
        if own is not None:
            yield own.usage
    feature = limiters.features.get(context.caller.feature or "")
    if feature is not None:
        yield feature.state().usage
