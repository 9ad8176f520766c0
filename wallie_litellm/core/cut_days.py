"""Days that a limit has ended: what they would have used without it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from statistics import median
from typing import Final

from wallie_litellm.core.weekly_shape import WEEK, WeeklyShape

_CUT: Final = (0.98, 1.02)  # shares of a limit between which a day's use shows that the limit has ended it
_MOST: Final = 2.0  # times the limit that such a day is taken to have asked for at most


def shape_without(limit: float, days: Sequence[Sequence[float]]) -> WeeklyShape:
    """The weekly shape of ``days`` as they would have been without ``limit``.

    A day that its limit has ended is continued as the other days of its weekday went on, or all others where there is
    none of these; left as it is, it would be taken for a slow day that ends early.
    """
    least, most = (share * limit for share in _CUT)
    cut = {number for number, day in enumerate(days) if least <= sum(day) <= most}
    others = {number: [0.0, *accumulate(day)] for number, day in enumerate(days) if number not in cut and any(day)}
    if not others:
        return WeeklyShape(days)
    whole = list(days)
    for number in cut:
        alike = [sums for other, sums in others.items() if (other - number) % WEEK == 0] or list(others.values())
        whole[number] = _continued(days[number], least, _MOST * limit, alike)
    return WeeklyShape(whole, cut)


def _continued(day: Sequence[float], least: float, most: float, alike: Sequence[Sequence[float]]) -> Sequence[float]:
    """The slots of ``day`` until ``least`` units were used, followed by usual ones; ``most`` is the most in all."""
    sums = [0.0, *accumulate(day)]
    slot = next(index for index, sum_ in enumerate(sums) if sum_ >= least)
    shares = [median(one[index] / one[-1] for one in alike) for index in range(slot, len(sums))]
    total = min(most, sums[slot] / shares[0]) if shares[0] > 0 else most
    left = 1 - shares[0]
    scale = (total - sums[slot]) / left if left > 0 else 0.0
    return [*day[:slot], *(scale * (after - before) for before, after in pairwise(shares))]
