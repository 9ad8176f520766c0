"""What is known of one request and its attempts while it is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wallie_litellm.core.breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.errors import MemberFailure
from wallie_litellm.stores.base import Reservation


class Ending(NamedTuple):
    """How an attempt ended: what it means for capacity, for the breaker, and for the provider's pause (seconds)."""

    outcome: Outcome
    verdict: Verdict = Verdict.IGNORED
    usage: Demand | None = None
    reason: str | None = None
    status_code: int | None = None
    pause_for: float | None = None
    rate_limited: bool = False
    transient: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One finished call to one deployment. Times are milliseconds."""

    provider: str
    model: str
    deployment: str
    outcome: str
    error: str | None
    status_code: int | None
    latency_ms: float
    waited_ms: float


@dataclass(slots=True)
class Attempt:
    """One call to one deployment, from its admission to its settlement.

    ``group`` is the name callers ask for, ``deployment`` LiteLLM's own name of the model behind it.
    """

    group: str
    provider: str = ""
    deployment: str = ""
    reservation: Reservation | None = None
    started_at: float = 0.0
    waited: float = 0.0
    ending: Ending | None = None
    streaming: bool = False


@dataclass(slots=True)
class RequestScope:
    """One request: what the caller asked for, and what has happened so far. Times are seconds."""

    group: str
    patience: float
    max_wait: float
    started_at: float
    priority: int = 0
    deadline_at: float | None = None
    feature: str | None = None
    user_id: str | None = None
    estimated_tokens: int | None = None
    chain: Sequence[str] = ()
    attempts: list[AttemptRecord] = field(default_factory=list)
    failures: list[MemberFailure] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0
    served_by: Attempt | None = None

    @property
    def retries(self) -> int:
        """Calls that repeated an earlier one to the same group."""
        return sum(self.calls.values()) - len(self.calls)

    def fail(self, group: str, provider: str, reason: str, retry_after: float | None, status_code: int | None) -> None:
        """Note why ``group`` did not serve."""
        self.failures.append(MemberFailure(group, provider, reason, retry_after, status_code))

    def fail_attempt(self, attempt: Attempt, ending: Ending) -> None:
        """Note why an attempt that was made did not serve."""
        reason = ending.reason or "failed"
        self.fail(attempt.group, attempt.provider, reason, ending.pause_for, ending.status_code)

    def remaining(self, group: str) -> Sequence[str]:
        """The members of the chain after ``group``."""
        members = (self.group, *self.chain)
        return members[members.index(group) + 1 :] if group in members else ()
