"""How fast a model answers at present, as a number that others can be compared with, and how sure that is.

Of each call the logarithm of a normalised latency is averaged, older ones counting less. Logarithms make one slow call
count no more than it should, and a ratio a difference. The weight by elapsed time is that of a peak EWMA without the
peak (Finagle's ``PeakEwma``): a peak would let one slow call of a heavy tail reorder a chain.
"""

from __future__ import annotations

from math import exp, inf, log
from typing import Final, NamedTuple

DECAY: Final = 16.0  # seconds in which a call's weight falls to 1/e
NORMAL_ANSWER: Final = 100  # output tokens of the answer that latencies are normalised to
FEWEST_TOKENS: Final = 10  # of a stream, below which its pace says nothing
LAST: Final = 0.4  # weight of the newest call in that of the last few
PENALTY: Final = 10.0  # seconds that a failed call counts as, at least: errors are fast
USUAL_SPREAD: Final = 0.5  # standard deviation of the logarithm
PRIOR: Final = 5.0  # calls as many as that counts for
UNSURE: Final = (
    6.0  # calls: of so many, the squared error is taken for twice as large, as their spread is not known well
)
_EARLIEST: Final = -inf


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
    """A typical latency in ``seconds``, and that of the last few calls.

    ``log_mean`` and ``variance`` are of the logarithms, ``effective`` is the number of calls that weigh as much (Kish).
    """

    seconds: float
    last_seconds: float
    log_mean: float
    variance: float
    effective: float

    @property
    def squared_error(self) -> float:
        """The square of the mean's standard error; of few calls, the variance is taken for what is usual, in part."""
        variance = (self.effective * self.variance + PRIOR * USUAL_SPREAD**2) / (self.effective + PRIOR)
        return variance / self.effective * (1.0 + UNSURE / self.effective)


class LatencyScore:
    """The weighted sums of the calls' logarithms; ``now`` is in seconds of one clock, which does not go back."""

    __slots__ = ("_at", "_last", "_squared_weights", "_squares", "_sum", "_weight")

    def __init__(self) -> None:
        self._at = _EARLIEST
        self._last = 0.0
        self._weight = self._squared_weights = self._sum = self._squares = 0.0

    def add(self, now: float, seconds: float) -> None:
        """Count one call of a normalised latency."""
        kept = exp((self._at - now) / DECAY)
        value = log(max(seconds, 1e-6))
        self._at = now
        self._last = value if not self._weight else self._last + LAST * (value - self._last)
        self._weight = self._weight * kept + 1.0
        self._squared_weights = self._squared_weights * kept * kept + 1.0
        self._sum = self._sum * kept + value
        self._squares = self._squares * kept + value * value

    def merged(self, other: LatencyScore) -> LatencyScore:
        """The calls of both."""
        both = LatencyScore()
        newer = self if self._at > other._at else other
        both._at, both._last = newer._at, newer._last
        for part in (self, other):
            kept = exp((part._at - both._at) / DECAY) if part._weight else 0.0
            both._weight += part._weight * kept
            both._squared_weights += part._squared_weights * kept * kept
            both._sum += part._sum * kept
            both._squares += part._squares * kept
        return both

    def pace(self) -> Pace | None:
        """The present pace; ``None`` before the first call."""
        if not self._weight:
            return None
        mean = self._sum / self._weight
        variance = max(0.0, self._squares / self._weight - mean * mean)
        effective = self._weight * self._weight / self._squared_weights
        return Pace(exp(mean), exp(self._last), mean, variance, effective)
