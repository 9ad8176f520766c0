"""The provider of one side of the sustained load, as a process: it prints where it listens, and at the end its counts.

A simulated provider's bucket holds a whole minute; this one's holds a burst too, as a slice of the minute, so that a
minute at twice the limit shows something.
"""

from __future__ import annotations

import json
import sys

from wallie_litellm.simulator import SimulatedProvider


def main() -> None:
    rate, burst, slack = (float(argument) for argument in sys.argv[1:])
    with SimulatedProvider("openai", rpm=round(rate * 60), slack=slack, slice_seconds=burst / rate) as provider:
        print(json.dumps({"api_base": provider.api_base}), flush=True)
        if sys.stdin.readline():
            counts = provider.counts()
            print(json.dumps({"received": counts.received, "rejected_429": counts.rejected_429}), flush=True)


if __name__ == "__main__":
    main()
