"""How an attempt and a request ended, without a word of any vendor's."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome

CANCELLED: Final = "cancelled"  # reason: the caller's task was cancelled
NO_CONTENT: Final = "no first token"  # reason: no content came within ``first_token``
ABANDONED: Final = "abandoned"  # reason: the caller stopped reading a stream


class AttemptResult(NamedTuple):
    """How an attempt ended: what it means for capacity, for the breaker, and for the provider's pause (seconds).

    ``timed_out``: the provider did not answer in time. ``by_request``: the provider refuses this very request, so that
    neither a repetition nor another model helps. ``by_account``: it refuses the key, or the account is empty, so that
    another key may be served. ``reported`` is the usage as the provider wrote it down, ``None`` when
    ``usage`` is an estimate; ``response_cost`` is LiteLLM's own price, in US dollars, where it has one already.
    """

    outcome: Outcome
    verdict: Verdict = Verdict.IGNORED
    usage: Demand | None = None
    reason: str | None = None
    status_code: int | None = None
    pause_for: float | None = None
    rate_limited: bool = False
    transient: bool = False
    timed_out: bool = False
    by_request: bool = False
    by_account: bool = False
    reported: Any = None
    response_cost: float | None = None


class RequestFailure(NamedTuple):
    """Why a request failed, in this package's words; ``by_caller`` as in :class:`~wallie_litellm.events.Ended`."""

    error: str
    status_code: int | None = None
    by_caller: bool = False
