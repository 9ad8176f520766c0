"""The circuit breaker: when to stop calling a provider, and when to try it again.

``closed`` lets every call pass and counts failures; ``open`` lets none pass until its time is up; ``half_open`` lets
a fixed number of probes pass. ``forced_open`` and ``disabled`` are set by operators. Every transition starts a
new generation, and a result that belongs to an older one changes nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol


class BreakerState(Enum):
    """The five states; the value is what status and telemetry show."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class Verdict(Enum):
    """What an attempt's result shows of its provider's health. ``SLOW`` served, too late; ``IGNORED`` shows nothing."""

    SUCCESS = "success"
    SLOW = "slow"
    FAILURE = "failure"
    IGNORED = "ignored"


def health_of(state: BreakerState, failures: int) -> str:
    """``healthy``, ``degraded`` (errors seen, or being probed) or ``down``."""
    if state in (BreakerState.OPEN, BreakerState.FORCED_OPEN):
        return "down"
    return "degraded" if state is BreakerState.HALF_OPEN or failures else "healthy"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When to open and for how long. Times are seconds; rates are fractions of the window's calls, ``None`` for off.

    Slow calls count as Resilience4j's ``slowCallRateThreshold`` has them: apart from failures, in the same window.
    """

    failures: int = 5
    error_rate: float | None = None
    window: float = 60.0
    min_calls: int = 20
    open_for: float = 10.0
    max_open_for: float = 60.0
    probes: int = 1
    slow_rate: float | None = None

    @property
    def counts_all(self) -> bool:
        """Whether successes count, too: a rate is of all calls."""
        return self.error_rate is not None or self.slow_rate is not None


class Breaker(Protocol):
    """What a limiter asks of a breaker, whether it decides itself or mirrors one that others decide on."""

    rules: BreakerRules
    state: BreakerState
    generation: int
    failures: int
    reason: str | None
    reopens_at: float

    @property
    def open_for(self) -> float:
        """The seconds for which it opens, or has opened last; a probe is given up as lost after so long."""

    def use(self, rules: BreakerRules) -> None:
        """Go by other rules from now on, in the state that it is in."""

    def wait(self, now: float) -> float:
        """Seconds until a call may be tried: 0 now, ``inf`` while an operator holds it open."""

    def enter(self, now: float, /) -> int:
        """Let one call pass whose :meth:`wait` is 0; the number of its permit if it is a probe, else 0."""

    def record(
        self, now: float, generation: int, verdict: Verdict, /, *, probe: int, reason: str | None = None
    ) -> bool:
        """Count the result of a call of ``generation``; ``probe`` is the number that :meth:`enter` returned for it."""

    def force_open(self) -> None:
        """Let nothing pass until an operator closes or releases the breaker."""

    def disable(self) -> None:
        """Let everything pass, whatever happens."""

    def close(self) -> None:
        """Let everything pass and begin counting anew."""

    def release(self) -> None:
        """End an operator's action: a breaker that was held open probes first, one that was disabled closes."""


BreakerAction = Literal["close", "force_open", "disable", "release"]


def apply_action(breaker: Breaker, action: BreakerAction) -> None:
    """Apply an operator's ``action`` to ``breaker``."""
    match action:
        case "close":
            breaker.close()
        case "force_open":
            breaker.force_open()
        case "disable":
            breaker.disable()
        case "release":
            breaker.release()


# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_CLOSED, _OPEN, _HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
_FORCED_OPEN, _DISABLED = BreakerState.FORCED_OPEN, BreakerState.DISABLED
_FAILURE, _SLOW, _IGNORED = Verdict.FAILURE, Verdict.SLOW, Verdict.IGNORED


class CircuitBreaker:
    """One provider's breaker. ``now`` is in seconds of the caller's monotonic clock."""

    __slots__ = (
        "_last_probe",
        "_open_for",
        "_probes",
        "_proved",
        "_sampled",
        "_window",
        "failures",
        "generation",
        "reason",
        "reopens_at",
        "rules",
        "state",
    )

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self.state = _CLOSED
        self.generation = 0
        self.failures = 0
        self.reason: str | None = None
        self.reopens_at = 0.0
        self._open_for = rules.open_for
        self._proved = 0
        self._last_probe = 0
        self._probes: dict[int, float] = {}  # when each outstanding probe is given up as lost
        self._window: deque[tuple[float, Verdict]] = deque()
        self._sampled: Counter[Verdict] = Counter()  # in the window

    def use(self, rules: BreakerRules) -> None:
        """Go by other rules from now on, in the state that it is in."""
        self.rules = rules
        if self.state is _CLOSED:
            self._open_for = rules.open_for

    def wait(self, now: float) -> float:
        """Seconds until a call may be tried: 0 now, ``inf`` while an operator holds it open."""
        state = self.state
        if state is _CLOSED or state is _DISABLED:
            return 0.0
        if state is _OPEN:
            return max(0.0, self.reopens_at - now)
        if state is _FORCED_OPEN:
            return float("inf")
        if self._permits(now):
            return 0.0
        return max(0.0, min(self._probes.values(), default=now) - now)

    def enter(self, now: float) -> int:
        """Let one call pass whose :meth:`wait` is 0; the number of its permit if it is a probe, else 0."""
        if self.state is _OPEN:
            self._become(_HALF_OPEN, self.reason)
        if self.state is not _HALF_OPEN:
            return 0
        self._last_probe += 1
        self._probes[self._last_probe] = now + self._open_for
        return self._last_probe

    def record(self, now: float, generation: int, verdict: Verdict, *, probe: int, reason: str | None = None) -> bool:
        """Count the result of a call of ``generation``; returns whether the state changed.

        ``probe`` is the number that :meth:`enter` returned. A probe that was given up as lost still counts when it
        ends.
        """
        if generation != self.generation:
            return False
        if self.state is _HALF_OPEN:
            return self._record_probe(now, probe, verdict, reason) if probe else False
        if self.state is not _CLOSED or verdict is _IGNORED:
            return False
        self._sample(now, verdict)
        if verdict is _FAILURE:
            self.failures += 1
            opens = self.failures >= self.rules.failures or self._too_many(_FAILURE, self.rules.error_rate)
        else:
            self.failures = 0
            opens = verdict is _SLOW and self._too_many(_SLOW, self.rules.slow_rate)
        if opens:
            self._open(now, self.rules.open_for, reason)
        return opens

    def force_open(self, reason: str = "forced open by the operator") -> None:
        """Let nothing pass until an operator closes or releases the breaker."""
        self._become(_FORCED_OPEN, reason)

    def disable(self) -> None:
        """Let everything pass, whatever happens."""
        self._become(_DISABLED, "disabled by the operator")

    def release(self) -> None:
        """End an operator's action: a breaker that was held open probes first, one that was disabled closes."""
        if self.state is _FORCED_OPEN:
            self._become(_HALF_OPEN, "released by the operator")
        elif self.state is _DISABLED:
            self.close()

    def close(self) -> None:
        """Let everything pass and begin counting anew."""
        self._become(_CLOSED, None)

    def take_over(self, state: BreakerState, reason: str | None, reopens_at: float, open_for: float) -> None:
        """Go on in the state of another breaker."""
        self._become(state, reason)
        self.reopens_at = reopens_at
        self._open_for = open_for

    @property
    def open_for(self) -> float:
        """The seconds for which it opens, or has opened last."""
        return self._open_for

    def _permits(self, now: float) -> bool:
        self._probes = {probe: expires for probe, expires in self._probes.items() if expires > now}
        return len(self._probes) + self._proved < self.rules.probes

    def _record_probe(self, now: float, probe: int, verdict: Verdict, reason: str | None) -> bool:
        self._probes.pop(probe, None)
        if verdict is _IGNORED:
            return False
        if verdict is _FAILURE or (verdict is _SLOW and self.rules.slow_rate is not None):
            self._open(now, min(self._open_for * 2, self.rules.max_open_for), reason)
            return True
        self._proved += 1
        if self._proved >= self.rules.probes:
            self.close()
            return True
        return False

    def _sample(self, now: float, verdict: Verdict) -> None:
        if not self.rules.counts_all:
            return
        self._window.append((now, verdict))
        self._sampled[verdict] += 1
        while self._window[0][0] <= now - self.rules.window:
            self._sampled[self._window.popleft()[1]] -= 1

    def _too_many(self, verdict: Verdict, rate: float | None) -> bool:
        calls = len(self._window)
        return rate is not None and calls >= self.rules.min_calls and self._sampled[verdict] / calls >= rate

    def _open(self, now: float, open_for: float, reason: str | None) -> None:
        self._become(_OPEN, reason)
        self._open_for = open_for
        self.reopens_at = now + open_for

    def _become(self, state: BreakerState, reason: str | None) -> None:
        self.state = state
        self.generation += 1
        self.reason = reason
        self.failures = 0
        self._proved = 0
        self._probes.clear()
        self._window.clear()
        self._sampled.clear()
        if state is _CLOSED:
            self._open_for = self.rules.open_for
