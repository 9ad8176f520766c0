"""How fast a model answers at present, as a number that others can be compared with, and how sure that is.

The logarithms of the last calls' normalised latencies are averaged: one slow call counts no more than it should, and a
ratio is a difference. Calls before the last change of pace do not count: as in ADWIN (Bifet and Gavaldà, "Learning from
time-changing data with adaptive windowing", 2007) the older part of a window is dropped where its mean is another. So
the window is long while nothing changes, for a model that is rarely asked too, and short after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from math import exp, log
from operator import sub
from statistics import fmean, median
from typing import Final, NamedTuple

from wallie_litellm.core.latency_histogram import WINDOW

MOST: Final = 128  # calls that are looked at
CHANGED: Final = 4.5  # standard errors between the means of two parts of a window that are of different paces
LEAST_CHANGED: Final = 3  # calls in the newer part
OUTLIER: Final = 2.0  # standard deviations of one call; what is farther from the median counts as that far in this test
NORMAL_ANSWER: Final = 100  # output tokens of the answer that latencies are normalised to
FEWEST_TOKENS: Final = 10  # of a stream, below which its pace says nothing
LAST: Final = 3  # calls that are the last few
PENALTY: Final = 10.0  # seconds that a failed call counts as, at least: errors are fast
USUAL_SPREAD: Final = 0.5  # standard deviation of the logarithm
LEAST_SPREAD: Final = 0.2  # of the logarithm, in the test for a change
PRIOR: Final = 5.0  # calls as many as that counts for
UNSURE: Final = 6.0  # calls: of so many, the squared error is taken for twice as large
_NEWER: Final = (*range(LEAST_CHANGED, 12), 13, 15, 17, 20, 23, 27, 32, 38, 45, 53, 63, 75, 90, 108)  # calls, at most
_OF_NORMAL: Final = 0.954  # median distance between two calls of a normal distribution, in standard deviations


def normalised(first_token: float, total: float, output_tokens: int, *, streamed: bool) -> float:
    """Seconds to an answer of ``NORMAL_ANSWER`` tokens, by a call that took ``total`` seconds.

    Of a stream the time after the first token is scaled. An answer in one piece shows no first token: a longer one is
    scaled as a whole, and a shorter one is not, as most of that is the time to the first token.
    """
    if not streamed:
        return total * NORMAL_ANSWER / max(output_tokens, NORMAL_ANSWER)
    if output_tokens < FEWEST_TOKENS:
        return first_token
    return first_token + (total - first_token) * NORMAL_ANSWER / output_tokens


class Pace(NamedTuple):
    """A typical latency in ``seconds``, that of the last few calls, and the shortest of those.

    ``log_mean`` and ``variance`` are of the logarithms, of so many ``calls`` since the pace has changed last.
    """

    seconds: float
    last_few: float
    best_of_few: float
    log_mean: float
    variance: float
    calls: int

    @property
    def squared_error(self) -> float:
        """The square of the mean's standard error; of few calls, the variance is taken for what is usual, in part."""
        variance = (self.calls * self.variance + PRIOR * USUAL_SPREAD**2) / (self.calls + PRIOR)
        return variance / self.calls * (1.0 + UNSURE / self.calls)


class LatencyScore:
    """The last calls of one kind. Times are seconds of one clock."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: deque[tuple[float, float]] = deque(maxlen=MOST)

    def add(self, started_at: float, seconds: float) -> None:
        """Count one call of a normalised latency."""
        self._calls.append((started_at, log(max(seconds, 1e-6))))

    def merged(self, other: LatencyScore) -> LatencyScore:
        """The calls of both."""
        both = LatencyScore()
        both._calls.extend(sorted((*self._calls, *other._calls)))
        return both

    def pace(self, now: float) -> Pace | None:
        """The present pace; ``None`` without a call in the last ten minutes.

        Calls are in the order in which they began: the last to end are slower than others.
        """
        recent = [value for at, value in sorted(self._calls) if at > now - WINDOW]
        if not recent:
            return None
        values = since_change(recent)
        mean = fmean(values)
        variance = fmean([value * value for value in values]) - mean * mean
        return Pace(
            exp(mean), exp(fmean(values[-LAST:])), exp(min(values[-LAST:])), mean, max(0.0, variance), len(values)
        )


def since_change(values: Sequence[float]) -> Sequence[float]:
    """The newest ``values`` that are of one pace: what is older is dropped until no part differs from the rest."""
    while begin := _change_in(values):
        values = values[begin:]
    return values


def _change_in(values: Sequence[float]) -> int:
    """Where the newer part begins whose mean differs most from that of the older one; 0 where none does for sure.

    The spread is taken from the differences of neighbours, which a change of pace leaves alone but for one.
    """
    count = len(values)
    if count < 2 * LEAST_CHANGED:
        return 0
    spread = max(LEAST_SPREAD, median(map(abs, map(sub, values[1:], values))) / _OF_NORMAL)
    middle, reach = median(values), OUTLIER * spread
    low, high = middle - reach, middle + reach
    sums = list(accumulate(low if value < low else high if value > high else value for value in values))
    farthest, found = (CHANGED * spread) ** 2, 0
    for newer in _NEWER:
        if (older := count - newer) < LEAST_CHANGED:
            break
        distance = sums[older - 1] / older - (sums[-1] - sums[older - 1]) / newer
        if (apart := distance * distance * newer * older / count) > farthest:
            farthest, found = apart, older
    return found
