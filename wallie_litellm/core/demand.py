"""What a request demands of a provider's limits, and what is charged for its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from operator import sub
from typing import Final, NamedTuple

from wallie_litellm.core.dimensions import DIMENSION_KINDS


class Demand(NamedTuple):
    """An amount of each kind of resource. The order is that of :class:`Kind`, so ``demand[kind]`` reads one.

    ``tokens`` is not always ``input + output``: a caller may give only a total.
    """

    requests: int = 1
    tokens: int = 0
    input: int = 0
    output: int = 0

    def of(self, dimension: str) -> int:
        """The amount that ``dimension`` (``rpm``, ``tpm``, ...) counts."""
        return self[DIMENSION_KINDS[dimension]]

    def plus(self, other: Demand) -> Demand:
        """The sum of two demands, kind by kind."""
        return Demand(*map(sum, zip(self, other, strict=True)))


NOTHING: Final = Demand(0, 0, 0, 0)
ONE_REQUEST: Final = Demand(1, 1, 1, 1)  # the least that a request can ask for


def shares(demands: Iterable[Demand], processes: int) -> Iterator[Demand]:
    """One process's part of each of ``demands``; their sum is its part of the sum, rounded up."""
    total = given = NOTHING
    for demand in demands:
        total = total.plus(demand)
        due = Demand(*(-(-amount // processes) for amount in total))
        yield Demand(*map(sub, due, given))
        given = due


class Tally:
    """A sum of demands, added up when it is read: every call adds, and reads are rare."""

    __slots__ = ("_pending", "_total", "add")

    def __init__(self) -> None:
        self._total = NOTHING
        self._pending: list[Demand] = []
        self.add: Callable[[Demand], None] = self._pending.append

    def total(self) -> Demand:
        """The sum so far."""
        if self._pending:
            self._total = Demand(*map(sum, zip(self._total, *self._pending, strict=True)))
            self._pending.clear()
        return self._total


class Outcome(Enum):
    """How an attempt ended, as far as capacity is concerned."""

    SUCCESS = "success"
    CACHE_HIT = "cache_hit"
    REJECTED = "rejected"  # the provider answered with an error: 4xx, 429, 5xx
    NOT_SENT = "not_sent"  # no connection was made, or the caller gave up before one
    CUT = "cut"  # timeout, cancellation, a stream that broke off


# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_SUCCESS, _REJECTED, _CUT = Outcome.SUCCESS, Outcome.REJECTED, Outcome.CUT


def charge(outcome: Outcome, estimate: Demand, usage: Demand | None) -> Demand:
    """What an attempt is charged, from the ``estimate`` it reserved and the ``usage`` that was seen.

    A provider counts a request that it rejects, but not its tokens; of a call cut short, the prompt and the output seen
    so far. A success without reported usage keeps the estimate.
    """
    if outcome is _SUCCESS:
        if usage is None:
            return estimate
        return usage if usage.requests == estimate.requests else Demand(estimate.requests, *usage[1:])
    if outcome is _REJECTED:
        return Demand(estimate.requests, 0, 0, 0)
    if outcome is _CUT:
        if usage is None:
            return Demand(estimate.requests, estimate.input, estimate.input, 0)
        return Demand(estimate.requests, usage.tokens, usage.input, usage.output)
    return NOTHING
