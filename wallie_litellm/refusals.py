"""From what stands in an attempt's way to the error that says so."""

from __future__ import annotations

import math

from wallie_litellm.errors import CircuitOpen, RateLimited, Refused, RequestTooLarge
from wallie_litellm.limiter import Limiter
from wallie_litellm.stores.base import CIRCUIT, CLOSED, PAUSED, TOO_LARGE, Hurdle


def refusal(hurdle: Hurdle, limiter: Limiter, group: str, *, waited: float, open_for: float) -> Refused:
    """The error for ``hurdle`` in front of ``limiter``.

    ``waited`` is how many seconds were spent on it already; ``open_for`` stands in for the time that only the operator
    knows.
    """
    provider = limiter.name
    after = f" after waiting {waited:.1f} s" if waited >= 0.1 else ""
    if hurdle.reason == CIRCUIT:
        reason = limiter.state().breaker_reason
        retry_after = hurdle.wait if math.isfinite(hurdle.wait) else open_for
        message = f"{provider}'s circuit is open{after}" + (f" ({reason})" if reason else "")
        return CircuitOpen(f"{message}.", provider=provider, model=group, retry_after=retry_after)
    if hurdle.reason.startswith(TOO_LARGE):
        dimension = hurdle.reason.removeprefix(TOO_LARGE)
        capacity = limiter.capacity(dimension)
        return RequestTooLarge(
            f"The request is larger than {provider}'s whole {dimension} limit of {capacity:.0f}: it could never be "
            f"served there. Shorten it, lower max_tokens, or raise wallie.providers.{provider}.{dimension}.",
            provider=provider,
            model=group,
            retry_after=math.inf,
        )
    if hurdle.reason == CLOSED:
        return RateLimited(
            f"{provider} cannot be waited for: the guard was closed.",
            provider=provider,
            model=group,
            retry_after=0.0,
        )
    if hurdle.reason == "concurrency":
        message = f"{provider} is at its concurrency limit{after}; a place is free as soon as a call ends."
        return RateLimited(message, provider=provider, model=group, retry_after=1.0)
    what = "asked to be left alone" if hurdle.reason == PAUSED else f"is at its {hurdle.reason} limit"
    return RateLimited(
        f"{provider} {what}{after}; it has capacity in {hurdle.wait:.1f} s, longer than this request may wait.",
        provider=provider,
        model=group,
        retry_after=hurdle.wait,
    )
