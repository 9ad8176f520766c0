"""A quantile of the values seen last, in which older ones count for less."""

from __future__ import annotations

from typing import Final

KEPT: Final = 64  # values
HALF_LIFE: Final = 24  # values after which one counts half
_SETTLED: Final = 24  # values after which the quantile is looked at again now and then only
_LOOKED_AT: Final = 16  # values, from then on

_WEIGHTS: Final = tuple(0.5 ** (age / HALF_LIFE) for age in range(KEPT))  # by age, in values
_BY_PLACE: Final = 2 * _WEIGHTS[::-1]  # of a full ring, whose newest value is anywhere: a slice of this


class RecentQuantile:
    """The ``share`` quantile of the last values, ``None`` before there are ``least`` of them.

    A value far from the others moves a quantile no further than to its neighbour. Threads may add at the same time: one
    of two values may get lost, which a figure of 64 does not notice.
    """

    __slots__ = ("_count", "_least", "_share", "_values", "value")

    def __init__(self, share: float, least: int) -> None:
        self.value: float | None = None
        self._share = share
        self._least = least
        self._count = 0
        self._values: list[float] = []

    def add(self, value: float) -> None:
        """Take in one value."""
        values, count = self._values, self._count
        if count < KEPT:
            values.append(value)
        else:
            values[count % KEPT] = value
        self._count = count = count + 1
        if count >= self._least and (count <= _SETTLED or not count % _LOOKED_AT):
            self.value = self._quantile()

    def _quantile(self) -> float:
        values = tuple(self._values)
        begin = KEPT - 1 - (self._count - 1) % KEPT
        pairs = sorted(zip(values, _BY_PLACE[begin : begin + KEPT], strict=False))
        rest = self._share * sum([weight for _, weight in pairs])
        for value, weight in pairs:
            rest -= weight
            if rest <= 1e-9:
                return value
        return pairs[-1][0]
