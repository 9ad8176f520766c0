"""What a fleet of several workers has used and admitted in all, and what became of it while its Redis was away.

A worker that is alone knows its own use only, so that of all of them is counted from their calls.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.config import ProviderLimits
from wallie_litellm.core.dimensions import DIMENSION_KINDS, RATE_DIMENSIONS
from wallie_litellm.core.limit_keys import limit_key
from wallie_litellm.events import Settled
from wallie_litellm.rehearse.limit_changes import calls_by_scope, changes_of
from wallie_litellm.rehearse.need import most_at_once, most_over
from wallie_litellm.rehearse.plan import PlannedFault

if TYPE_CHECKING:
    from wallie_litellm.rehearse.fleet import StoreChange

MINUTE: Final = 60.0  # seconds that a limit's use is of
ROUNDING: Final = 0.5  # units below which an excess is one of rounding
Look = tuple[float, dict[str, Any]]  # seconds from the start; by provider and limit the used units and the limit


def over_the_limits(limits: ProviderLimits, provider: str, settled: Iterable[Settled]) -> dict[str, int]:
    """By limit the most units that were admitted beyond what the limit, as a bucket or at once, allows."""
    calls = calls_by_scope(limits, provider, settled)
    found = {}
    for scope, own in {"": limits, **limits.models}.items():
        for dimension, amount in own.by_dimension().items():
            changes = [change for one in calls[scope] for change in changes_of(dimension, one)]
            over = 0.0
            if dimension in RATE_DIMENSIONS:
                over = most_over(changes, amount, own.burst.get(dimension, amount))
            elif dimension == "concurrency":
                over = most_at_once(changes) - amount
            if over > ROUNDING:
                found[limit_key(dimension, scope)] = ceil(over - ROUNDING)
    return found


def looks_at_fleet(
    looks: Sequence[Look], limits: Mapping[str, ProviderLimits], settled: Sequence[Settled], began: float
) -> list[Look]:
    """The looks with what all workers together have used of limits per minute."""
    used = {
        (provider, limit_key(dimension, scope)): _use_per_minute(dimension, calls)
        for provider, own in limits.items()
        for scope, calls in calls_by_scope(own, provider, [one for one in settled if one.provider == provider]).items()
        for dimension in RATE_DIMENSIONS
    }
    return [
        (
            at,
            {
                provider: {
                    key: (used[provider, key](began + at), amount) if (provider, key) in used else (own, amount)
                    for key, (own, amount) in look.items()
                }
                for provider, look in found.items()
            },
        )
        for at, found in looks
    ]


def _use_per_minute(dimension: str, calls: Iterable[Settled]) -> Callable[[float], float]:
    """What the minute before a time has used: requests as they begin, tokens as they are settled."""
    kind = DIMENSION_KINDS[dimension]
    uses = sorted((one.at - one.latency_ms / 1000 if kind == 0 else one.at, one.charged[kind]) for one in calls)
    times, sums = [at for at, _ in uses], [0.0, *accumulate(amount for _, amount in uses)]
    return lambda now: sums[bisect_right(times, now)] - sums[bisect_right(times, now - MINUTE)]


def redis_fault(fault: PlannedFault, began: float, changes: Iterable[StoreChange], workers: int) -> dict[str, Any]:
    """When all workers had noticed that Redis is away, and when it served all of them again, in seconds."""
    begins, ends = began + fault.at, began + fault.ends
    alone: dict[int, float] = {}
    served: dict[int, float] = {}
    for one in changes:
        if begins <= one.at < ends and one.state == "down":
            alone.setdefault(one.worker, one.at - begins)
        elif one.at >= ends and one.state == "ok":
            served.setdefault(one.worker, one.at - ends)
    return {
        "fell_back_after": None,
        "opened_after": None,
        "noticed_after": max(alone.values()) if len(alone) == workers else None,
        "back_after": max(served.values()) if len(served) == workers else None,
        "failed_calls": 0,
    }
