"""Whether a model has fallen silent, by the calls that wait for it.

A sequential test: of each call that is not answered, the share of calls that take longer than it has waited, of those
that take as long as it had waited when the model answered anything last. The product is the probability that a model as
it was would leave all of them waiting; below :data:`SILENT` it is silent. A crowd of calls that are all a little late
shows it as well as two that are very late. Each answer begins the test anew: a heavy tail or a slower model is no
silence.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Final, Protocol

from wallie_litellm.core.latency_histogram import LatencyTail

SILENT: Final = 1e-4  # probability of chance below which a model is silent
LEAST_SHARE: Final = 0.005  # that one call counts as, at the least: one alone may be lost on its way
LEFT_ALONE: Final = 20.0  # seconds after its calls were given up until a single one tries a silent model
LONGEST_LEFT_ALONE: Final = 60.0  # seconds: the time doubles with each call that tried in vain


class WaitingCall(Protocol):
    """What is read of a call, in seconds."""

    @property
    def started_at(self) -> float:
        """When it began."""

    @property
    def first_token_at(self) -> float | None:
        """When its first token came."""


class Silence:
    """What calls of one kind that were not answered say of their model. ``now`` does not go back."""

    __slots__ = ("_answered_at", "_lost", "_pause", "_tried_at", "_tries_at")

    def __init__(self) -> None:
        self._answered_at = -inf
        self._forget()

    def _forget(self) -> None:
        self._lost = 1.0  # the part of the product that is of calls which were given up
        self._pause = LEFT_ALONE
        self._tried_at = inf  # when the last single call tried it
        self._tries_at = -inf  # when the next one does

    def answered(self, at: float) -> None:
        """A call was answered, with a token or with an error."""
        self._answered_at = max(self._answered_at, at)
        if self._lost < 1.0:
            self._forget()

    def given_up(self, call: WaitingCall, now: float, tail: LatencyTail) -> None:
        """A call has ended without any answer."""
        share = self._share(call, now, tail)
        if share >= 1.0:
            return
        self._lost *= share
        if call.started_at >= self._tried_at:
            self._pause = min(2 * self._pause, LONGEST_LEFT_ALONE)
        self._tries_at = now + self._pause

    @property
    def is_known(self) -> bool:
        """Whether the calls that were given up show it alone."""
        return self._lost < SILENT

    def tries(self, now: float) -> bool:
        """Whether the request that asks is the single one that tries the model again."""
        if now < self._tries_at:
            return False
        self._tried_at, self._tries_at = now, now + self._pause
        return True

    def shows(self, calls: Collection[WaitingCall], now: float, tail: LatencyTail) -> bool:
        """Whether ``calls``, which have not ended, show that the model is silent."""
        tokens = (call.first_token_at for call in calls if call.first_token_at is not None)
        if (token_at := max(tokens, default=-inf)) > self._answered_at:
            self.answered(token_at)
        chance = self._lost
        for call in calls:
            if call.first_token_at is None:
                chance *= self._share(call, now, tail)
                if chance < SILENT:
                    return True
        return False

    def _share(self, call: WaitingCall, now: float, tail: LatencyTail) -> float:
        """The share of the calls that wait for longer, of those that were not answered when another was, last."""
        earlier = tail.share(max(0.0, self._answered_at - call.started_at))
        return max(LEAST_SHARE, tail.share(now - call.started_at) / earlier)
