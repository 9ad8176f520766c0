"""What is known of one request and its attempts while it is under way."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.errors import MemberFailure, Refused
from wallie_litellm.events import Settled, new_id
from wallie_litellm.limiter.store import Reservation

if TYPE_CHECKING:
    from wallie_litellm.guard.stream import GuardedStream
    from wallie_litellm.limiter.limiter import Limiter


# Reasons for which a caller, and no provider, ends a request.
CANCELLED = "cancelled"
ABANDONED = "abandoned"

# Statuses that are the caller's own doing.
CALLER_STATUSES = frozenset({400, 404, 405, 413, 415, 422})


class AttemptResult(NamedTuple):
    """How an attempt ended: what it means for capacity, for the breaker, and for the provider's pause (seconds).

    ``reported`` is the usage as the provider wrote it down, ``None`` when ``usage`` is an estimate; ``response_cost``
    is LiteLLM's own price, in US dollars, where it has one already.
    """

    outcome: Outcome
    verdict: Verdict = Verdict.IGNORED
    usage: Demand | None = None
    reason: str | None = None
    status_code: int | None = None
    pause_for: float | None = None
    rate_limited: bool = False
    transient: bool = False
    reported: Any = None
    response_cost: float | None = None


class RequestFailure(NamedTuple):
    """Why a request failed, in our own words; ``by_caller`` as in :class:`~wallie_litellm.events.Ended`."""

    error: str
    status_code: int | None = None
    by_caller: bool = False


@dataclass(slots=True)
class Attempt:
    """One call to one deployment, from its admission to its settlement.

    ``group`` is the name callers ask for, ``deployment`` LiteLLM's own name of the model behind it, ``entry`` what the
    router's ``model_list`` says of it. ``shared`` is what it holds of its feature's own limits.
    """

    group: str
    provider: str = ""
    deployment: str = ""
    entry: Mapping[str, Any] = field(default_factory=dict)
    reservation: Reservation | None = None
    shared: tuple[Limiter, Reservation] | None = None
    started_at: float = 0.0
    waited: float = 0.0
    ending: AttemptResult | None = None
    streaming: bool = False
    guarded: weakref.ref[GuardedStream] | None = None  # its stream


@dataclass(slots=True)
class RequestContext:
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
    operation: str = "chat"
    stream: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = field(default_factory=new_id)
    attempts: list[Settled] = field(default_factory=list)
    failures: list[MemberFailure] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0
    served_by: Attempt | None = None
    feature_refusal: Refused | None = None  # no member of the chain can help against it
    fallbacks_under_way: int = 0  # from inside a stream
    ended: bool = False

    @property
    def retries(self) -> int:
        """Calls that repeated an earlier one to the same group."""
        return sum(self.calls.values()) - len(self.calls)

    def fail(self, group: str, provider: str, reason: str, retry_after: float | None, status_code: int | None) -> None:
        """Note why ``group`` did not serve."""
        self.failures.append(MemberFailure(group, provider, reason, retry_after, status_code))

    def fail_attempt(self, attempt: Attempt, ending: AttemptResult) -> None:
        """Note why an attempt that was made did not serve."""
        reason = ending.reason or "failed"
        self.fail(attempt.group, attempt.provider, reason, ending.pause_for, ending.status_code)

    def last_provider(self) -> str:
        """The provider that was tried or found unavailable last; empty when it never came to that."""
        if self.failures:
            return self.failures[-1].provider
        return self.attempts[-1].provider if self.attempts else ""

    def remaining(self, group: str) -> Sequence[str]:
        """The members of the chain after ``group``."""
        members = (self.group, *self.chain)
        return members[members.index(group) + 1 :] if group in members else ()
