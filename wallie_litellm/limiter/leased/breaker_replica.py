"""A fleet's breaker as one process sees it: the lender decides, this is what is known of it here."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, Verdict

_CLOSED, _OPEN, _HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
_SUCCESS, _IGNORED = Verdict.SUCCESS, Verdict.IGNORED


class BreakerReplica:
    """Looks to the limiter as :class:`~wallie_litellm.core.circuit_breaker.CircuitBreaker` does.

    How calls end is noted for the next report. The permit of a probe is asked for, and held until it is used.
    """

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self.state = _CLOSED
        self.generation = 0
        self.failures = 0
        self.reason: str | None = None
        self.reopens_at = 0.0
        self.permits: list[int] = []
        self.urgent = False  # there is something that the others should hear of
        self.orders: list[str] = []
        self._open_for = rules.open_for
        self._free_at = -inf
        self._outcomes: list[list[Any]] = []

    def wait(self, now: float) -> float:
        """Seconds until a call may be tried, as far as is known here."""
        state = self.state
        if state is _OPEN:
            return max(0.0, self.reopens_at - now)
        if state is BreakerState.FORCED_OPEN:
            return inf
        if state is _HALF_OPEN and not self.permits:
            return max(0.0, self._free_at - now)
        return 0.0

    def needs_permit(self, now: float) -> bool:
        """Whether a call could go as a probe now, if the lender permits."""
        return self.state in (_OPEN, _HALF_OPEN) and not self.permits and self.wait(now) <= 0

    def enter(self, _now: float) -> int:
        """Use a permit, if one is held; its number."""
        return self.permits.pop() if self.permits else 0

    def record(self, _now: float, generation: int, verdict: Verdict, *, probe: int, reason: str | None = None) -> bool:
        """Note how a call ended; whether that changes the state is for the lender to say."""
        if generation != self.generation or (verdict is _IGNORED and not probe):
            return False
        if verdict is _SUCCESS and not probe and not self.failures and self.rules.error_rate is None:
            return False
        last = self._outcomes[-1] if self._outcomes else None
        if last is not None and not probe and last[:3] == [generation, verdict.value, 0]:
            last[3], last[4] = reason, last[4] + 1
        else:
            self._outcomes.append([generation, verdict.value, probe, reason, 1])
        self.urgent = self.urgent or verdict is Verdict.FAILURE or bool(probe) or bool(self.failures)
        return False

    def give_back_permits(self, now: float) -> None:
        """Let another worker probe: nobody here does."""
        while self.permits:
            self.record(now, self.generation, _IGNORED, probe=self.permits.pop())

    def force_open(self) -> None:
        """Let nothing pass until the operator says so."""
        self._order("force_open", BreakerState.FORCED_OPEN, "forced open by the operator")

    def disable(self) -> None:
        """Let everything pass, whatever happens."""
        self._order("disable", BreakerState.DISABLED, "disabled by the operator")

    def close(self) -> None:
        """Let everything pass and begin counting anew."""
        self._order("close", _CLOSED, None)

    def release(self) -> None:
        """Leave it to the rules again, after the operator's order: what was held open is probed first."""
        if self.state is BreakerState.FORCED_OPEN:
            self._order("release", _HALF_OPEN, "released by the operator")
        elif self.state is BreakerState.DISABLED:
            self._order("release", _CLOSED, None)
        else:  # another worker may have had an order that is not known here yet
            self.orders.append("release")
            self.urgent = True

    def _order(self, order: str, state: BreakerState, reason: str | None) -> None:
        self.state, self.reason, self.failures = state, reason, 0
        self.permits.clear()
        self._free_at = -inf  # whoever was probing before does so no more
        self.orders.append(order)
        self.urgent = True

    def report(self) -> tuple[list[list[Any]], list[str]]:
        """What has been noted since the last report: outcomes and orders."""
        outcomes, orders = self._outcomes, self.orders
        self._outcomes, self.orders, self.urgent = [], [], False
        return outcomes, orders

    def learn(self, now: float, told: Mapping[str, Any]) -> None:
        """Take over what the lender says."""
        if self.orders:  # it has not heard of these yet
            return
        if told["generation"] != self.generation:
            self.permits.clear()
        self.state = BreakerState(told["state"])
        self.generation = told["generation"]
        self.failures = told["failures"]
        self.reason = told.get("reason")
        self.reopens_at = now + told["reopens_in"]
        self._open_for = told["open_for"]
        self._free_at = now + told["free_in"]
        if told["probe"]:
            self.permits.append(told["probe"])

    def memory(self, now: float) -> dict[str, Any]:
        """What a lender that has lost its memory should begin with."""
        state = _OPEN if self.state is _HALF_OPEN else self.state
        return {
            "state": state.value,
            "generation": self.generation,
            "reason": self.reason,
            # One that was released half open may still have the time of an opening before.
            "reopens_in": max(0.0, self.reopens_at - now) if self.state is _OPEN else 0.0,
            "open_for": self._open_for,
        }
