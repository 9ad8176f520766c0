"""A fleet's breaker as one worker has it: the lease server decides, and its last answer is kept here."""

from __future__ import annotations

from math import inf
from typing import Any

from wallie_litellm.core.circuit_breaker import BreakerAction, BreakerRules, BreakerState, Verdict
from wallie_litellm.core.lease_exchange import BreakerAnswer, BreakerSnapshot

_CLOSED, _OPEN, _HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
_SUCCESS, _IGNORED = Verdict.SUCCESS, Verdict.IGNORED


class BreakerReplica:
    """Has the interface of :class:`~wallie_litellm.core.circuit_breaker.CircuitBreaker`.

    Outcomes of calls are kept for the next report. The permit of a probe is asked for, and held until it is used.
    """

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self.state = _CLOSED
        self.generation = 0
        self.failures = 0
        self.reason: str | None = None
        self.reopens_at = 0.0
        self.permits: list[int] = []
        self.urgent = False  # the next report must not wait for the heartbeat
        self.actions: list[BreakerAction] = []  # of an operator, not yet reported
        self._open_for = rules.open_for
        self._probe_free_at = -inf
        self._outcomes: list[list[Any]] = []

    def use(self, rules: BreakerRules) -> None:
        """Go by other rules from now on."""
        self.rules = rules
        if self.state is _CLOSED:
            self._open_for = rules.open_for

    @property
    def open_for(self) -> float:
        """The seconds for which it opens, or has opened last."""
        return self._open_for

    @property
    def is_reporting(self) -> bool:
        """Whether there is something that the lease server does not have yet."""
        return bool(self._outcomes or self.actions)

    def wait(self, now: float) -> float:
        """Seconds until a call may be tried, by the last answer."""
        state = self.state
        if state is _OPEN:
            return max(0.0, self.reopens_at - now)
        if state is BreakerState.FORCED_OPEN:
            return inf
        if state is _HALF_OPEN and not self.permits:
            return max(0.0, self._probe_free_at - now)
        return 0.0

    def needs_permit(self, now: float) -> bool:
        """Whether a call could go as a probe now, if the lease server permits."""
        return self.state in (_OPEN, _HALF_OPEN) and not self.permits and self.wait(now) <= 0

    def enter(self, _now: float) -> int:
        """Use a permit, if one is held; its number."""
        return self.permits.pop() if self.permits else 0

    def record(self, _now: float, generation: int, verdict: Verdict, *, probe: int, reason: str | None = None) -> bool:
        """Keep a call's outcome for the next report; whether it changes the state is the lease server's decision."""
        if generation != self.generation or (verdict is _IGNORED and not probe):
            return False
        if verdict is _SUCCESS and not probe and not self.failures and not self.rules.counts_all:
            return False
        last = self._outcomes[-1] if self._outcomes else None
        if last is not None and not probe and last[:3] == [generation, verdict.value, 0]:
            last[3], last[4] = reason, last[4] + 1
        else:
            self._outcomes.append([generation, verdict.value, probe, reason, 1])
        self.urgent = self.urgent or verdict is Verdict.FAILURE or bool(probe) or bool(self.failures)
        return False

    def return_permits(self, now: float) -> None:
        """Report the permits as unused, so that another worker may probe."""
        while self.permits:
            self.record(now, self.generation, _IGNORED, probe=self.permits.pop())

    def force_open(self) -> None:
        """Let nothing pass until an operator closes or releases the breaker."""
        self._act("force_open", BreakerState.FORCED_OPEN, "forced open by the operator")

    def disable(self) -> None:
        """Let everything pass, whatever fails."""
        self._act("disable", BreakerState.DISABLED, "disabled by the operator")

    def close(self) -> None:
        """Let everything pass and begin counting anew."""
        self._act("close", _CLOSED, None)

    def release(self) -> None:
        """Return to the rules after an operator's action: a breaker that was held open is probed first."""
        if self.state is BreakerState.FORCED_OPEN:
            self._act("release", _HALF_OPEN, "released by the operator")
        elif self.state is BreakerState.DISABLED:
            self._act("release", _CLOSED, None)
        else:  # an operator's action at another worker may not be in an answer yet
            self.actions.append("release")
            self.urgent = True

    def _act(self, action: BreakerAction, state: BreakerState, reason: str | None) -> None:
        self.state, self.reason, self.failures = state, reason, 0
        self.permits.clear()
        self._probe_free_at = -inf  # probes of other workers from before do not count any more
        self.actions.append(action)
        self.urgent = True

    def report(self) -> tuple[list[list[Any]], list[BreakerAction]]:
        """Outcomes and operators' actions since the last report."""
        outcomes, actions = self._outcomes, self.actions
        self._outcomes, self.actions, self.urgent = [], [], False
        return outcomes, actions

    def update(self, now: float, answer: BreakerAnswer) -> None:
        """Copy the lease server's answer."""
        if self.actions:  # the answer is older than these
            return
        if answer["generation"] != self.generation:
            self.permits.clear()
        self.state = BreakerState(answer["state"])
        self.generation = answer["generation"]
        self.failures = answer["failures"]
        self.reason = answer.get("reason")
        self.reopens_at = now + answer["reopens_in"]
        self._open_for = answer["open_for"]
        self._probe_free_at = now + answer["probe_free_in"]
        if answer["permit"]:
            self.permits.append(answer["permit"])

    def snapshot(self, now: float) -> BreakerSnapshot:
        """The state for a lease server that has none."""
        state = _OPEN if self.state is _HALF_OPEN else self.state
        return {
            "state": state.value,
            "generation": self.generation,
            "reason": self.reason,
            # A breaker that was released to half open may still have the time of an earlier opening.
            "reopens_in": max(0.0, self.reopens_at - now) if self.state is _OPEN else 0.0,
            "open_for": self._open_for,
        }
