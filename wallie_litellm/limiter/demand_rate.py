"""The usage of a limiter's limits, with the time at which those per minute are used up."""

from __future__ import annotations

import sys

from wallie_litellm.core.exhaustion import RATE_WINDOWS, seconds_to_empty
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE
from wallie_litellm.core.wait_queue import WaitQueue
from wallie_litellm.limiter.store import LimitUsage, ProviderStore
from wallie_litellm.limiter.waiter import Waiter


def with_exhaustion(
    store: ProviderStore, queue: WaitQueue[Waiter], now: float, scope: str = ACCOUNT
) -> dict[str, LimitUsage]:
    """The usage of one scope's limits, by what was asked of them lately and by what waits."""
    usage = store.usage(now, scope)
    demanded = {seconds: store.demanded(now, seconds, scope) for seconds in RATE_WINDOWS}
    waiting = [demand for of, demand in queue.ahead(-sys.maxsize).items() if scope in (ACCOUNT, of)]
    for dimension in demanded[RATE_WINDOWS[0]]:
        own = usage[dimension]
        by_time = {seconds: units[dimension] for seconds, units in demanded.items()}
        queued = sum(demand.of(dimension) for demand in waiting)
        seconds = seconds_to_empty(own.left, own.full / SECONDS_PER_MINUTE, by_time, queued)
        usage[dimension] = own._replace(exhausted_in=seconds)
    return usage
