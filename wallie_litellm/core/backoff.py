"""How long to wait before a retry, by tenacity's wait strategies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tenacity import RetryCallState, wait_exponential
from tenacity.wait import wait_base

if TYPE_CHECKING:
    from collections.abc import Callable


class wait_jittered(wait_base):  # noqa: N801 - tenacity names its strategies like functions
    """Spread another strategy's wait evenly over ``1 - fraction`` to ``1 + fraction`` of itself, up to ``max``."""

    def __init__(self, wait: wait_base, fraction: float, max: float, uniform: Callable[[float, float], float]) -> None:  # noqa: A002 - tenacity's own word
        self.wait = wait
        self.fraction = fraction
        self.max = max
        self.uniform = uniform

    def __call__(self, retry_state: RetryCallState) -> float:
        """Seconds to wait before the attempt after ``retry_state.attempt_number``."""
        return min(self.max, self.wait(retry_state) * self.uniform(1 - self.fraction, 1 + self.fraction))


class Backoff:
    """Waits of ``initial * multiplier ** n`` seconds, at most ``max``, with ``jitter`` as a fraction to each side."""

    def __init__(
        self,
        initial: float = 1.0,
        max: float = 16.0,  # noqa: A002 - the config's own word
        multiplier: float = 2.0,
        jitter: float = 0.25,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._wait = wait_jittered(
            wait_exponential(multiplier=initial, exp_base=multiplier, max=max), jitter, max, uniform
        )

    def seconds(self, retry: int) -> float:
        """Seconds to wait before the ``retry``-th retry, counted from 1."""
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type] # the strategies read only attempt_number
        state.attempt_number = retry
        return self._wait(state)
