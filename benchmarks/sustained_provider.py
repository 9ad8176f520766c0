"""The provider of one side of the sustained load, as a process: it prints where it listens, and at the end its counts.

A simulated provider's bucket holds a whole minute; this one's holds a burst, so that a minute at twice the limit shows
something. Its limiter stays its own and shares nothing with ours.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from wallie_litellm.simulator import SimulatedProvider, limits


def main() -> None:
    rate, burst, slack = (float(argument) for argument in sys.argv[1:])

    class BurstBucket(limits.Bucket):
        def __init__(self, per_minute: int, slack: float, clock: Callable[[], float]) -> None:
            super().__init__(per_minute, slack, clock)
            self._capacity = self._level = burst + self._slack

    limits.Bucket = BurstBucket  # type: ignore[misc]
    with SimulatedProvider("openai", rpm=round(rate * 60), slack=slack) as provider:
        print(json.dumps({"api_base": provider.api_base}), flush=True)
        if sys.stdin.readline():
            counts = provider.counts()
            print(json.dumps({"received": counts.received, "rejected_429": counts.rejected_429}), flush=True)


if __name__ == "__main__":
    main()
