"""From what stands in an attempt's way to the error that says so."""

from __future__ import annotations

import math

from wallie_litellm.errors import CircuitOpen, RateLimited, Refused, RequestTooLarge
from wallie_litellm.limiter.limiter import FEATURE, Limiter
from wallie_litellm.limiter.store import CIRCUIT, CLOSED, LEASE, PAUSED, QUEUE, TOO_LARGE, UNREACHABLE, Denial


def refusal(hurdle: Denial, limiter: Limiter, group: str, *, waited: float, open_for: float) -> Refused:
    """The error for ``hurdle`` in front of ``limiter``.

    ``waited`` is how many seconds were spent on it already; ``open_for`` stands in for the time that only the operator
    knows.
    """
    provider = limiter.name
    who, setting = _described(limiter)
    subject = f"The{who.removeprefix('the')}" if limiter.is_feature else who
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
            f"The request is larger than {who}'s whole {dimension} limit of {capacity:.0f}: it could never be "
            f"served there. Shorten it, lower max_tokens, or raise {setting}.{dimension}.",
            provider=provider,
            model=group,
            retry_after=math.inf,
        )
    if hurdle.reason == CLOSED:
        return RateLimited(
            f"{subject} cannot be waited for: the guard was closed.",
            provider=provider,
            model=group,
            retry_after=0.0,
        )
    where = f" ({setting}.{hurdle.reason})" if limiter.is_feature else ""
    if hurdle.reason == "concurrency":
        message = f"{subject} is at its concurrency limit{after}{where}; a place is free as soon as a call ends."
        return RateLimited(message, provider=provider, model=group, retry_after=1.0)
    if hurdle.reason == UNREACHABLE:
        message = (
            f"{subject} cannot be called: the shared store does not answer, and wallie.store.on_store_error is closed."
        )
        return RateLimited(message, provider=provider, model=group, retry_after=hurdle.wait)
    if hurdle.reason in (QUEUE, LEASE):
        what = f"has other requests in line{after}; there is no telling whether this one can be served in time."
    elif hurdle.reason == PAUSED:
        what = f"asked to be left alone{after}; {_too_late(hurdle)}"
    else:
        what = f"is at its {hurdle.reason} limit{after}{where}; {_too_late(hurdle)}"
    return RateLimited(f"{subject} {what}", provider=provider, model=group, retry_after=hurdle.wait)


def _too_late(hurdle: Denial) -> str:
    return f"it has capacity in {hurdle.wait:.1f} s, longer than this request may wait."


def _described(limiter: Limiter) -> tuple[str, str]:
    """Whose limits these are, in words, and the key path under which they are set."""
    if limiter.is_feature:
        feature = limiter.name.removeprefix(FEATURE)
        return f"the feature {feature}", f"wallie.features.{feature}.limits"
    return limiter.name, f"wallie.providers.{limiter.name}"
