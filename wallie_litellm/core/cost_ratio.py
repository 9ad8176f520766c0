"""What calls cost of their estimates, where that is more: by it later estimates are raised."""

from __future__ import annotations

from math import ceil
from typing import Final

_FEW: Final = 10  # calls before a ratio is used
_KEPT: Final = 0.98  # weight of what is known when one more call comes: 50 calls or so count
_MOST: Final = 1_000.0  # a picture costs some 700 times its prompt; a ratio beyond this says something of a mistake


class CostRatio:
    """Costs of recent calls over their estimates: of their sums, as a budget is the sum of calls.

    A lower cost lowers no estimate: too much is reserved for the time of a call alone, too little is overspent. Calls
    without an estimate, such as of pictures that are priced each, are expected to cost the mean of the last ones.
    Threads may add at the same time: one of two calls may get lost.
    """

    __slots__ = ("_calls", "_cost", "_estimated", "usual", "value")

    def __init__(self) -> None:
        self.value = 1.0  #: at least 1
        self.usual = 0.0  #: nano-dollars of a call without an estimate
        self._calls = 0
        self._cost = 0.0
        self._estimated = 0.0

    def expected(self, estimated: int) -> int:
        """What a call will cost, in nano-dollars, as its estimate; 0 is none."""
        return ceil(estimated * self.value if estimated else self.usual)

    def add(self, estimated: int, cost: int) -> None:
        """Take in one call, in nano-dollars."""
        if not estimated:
            self.usual += (cost - self.usual) * (1 - _KEPT) if self.usual else cost
            return
        self._calls += 1
        self._cost = self._cost * _KEPT + min(cost, estimated * _MOST)
        self._estimated = self._estimated * _KEPT + estimated
        if self._calls >= _FEW:
            self.value = max(1.0, self._cost / self._estimated)
