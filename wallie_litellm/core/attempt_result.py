"""How an attempt and a request ended, without a word of any vendor's."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.core.http_status import PROVIDER_4XX

CANCELLED: Final = "cancelled"  # reason: the caller's task was cancelled
NO_CONTENT: Final = "no first token"  # reason: no content came within ``first_token``
ABANDONED: Final = "abandoned"  # reason: the caller stopped reading a stream
HEDGED: Final = "hedged"  # reason: another attempt of the request, made beside this one, was answered first
# Ends of reasons that say more than the status does; the ledger reads them.
EXHAUSTED: Final = "quota exhausted"  # the account has no money or quota left
KEY_REFUSED: Final = "account refused"  # under a status that is usually the caller's
TOO_LARGE: Final = "request too large"  # for a limit of the account's

CALLERS_ERRORS: Final = frozenset({CANCELLED, ABANDONED, HEDGED})  # reasons of failures that the request causes itself


class AttemptResult(NamedTuple):
    """How an attempt ended: what it means for capacity, for the breaker, and for a pause (``pause_for`` seconds).

    ``fault`` is whose failure it was, where that is known. A pause is of the account where that is the account's, else
    of the model. ``timed_out``: the provider did not answer in time. ``reported`` is the usage as the provider wrote it
    down, with the details that its price depends on; ``estimated``: some of ``usage`` is not the provider's figure.
    ``response_cost`` is LiteLLM's own price, in US dollars, where it has one already; ``service_tier`` the one that
    served. ``counted``: what the provider's limits count of ``usage``, where that is not all of it.
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
    fault: FaultDomain | None = None
    reported: Any = None
    response_cost: float | None = None
    estimated: bool = False
    service_tier: str | None = None
    counted: Demand | None = None

    @property
    def is_models(self) -> bool:
        """Whether a failure is the model's: its answers say nothing of other models.

        A key that is refused, an account that is empty and a connection that is not made are every model's.
        """
        return self.fault is not FaultDomain.ACCOUNT and self.outcome is not Outcome.NOT_SENT

    @property
    def too_large(self) -> bool:
        """Whether the request alone exceeds a limit of the account's: waiting does not help."""
        return self.fault is FaultDomain.REQUEST and (self.reason or "").endswith(TOO_LARGE)

    @property
    def by_caller(self) -> bool:
        """Whether neither a repetition nor another model helps: no provider takes this request."""
        return self.fault is FaultDomain.CALLER

    @property
    def by_account(self) -> bool:
        """Whether the provider refuses the key, or the account is empty: another key may be served."""
        return self.fault is FaultDomain.ACCOUNT and not self.rate_limited


class RequestFailure(NamedTuple):
    """Why a request failed, in this package's words; ``by_caller`` as in :class:`~wallie_litellm.events.Ended`."""

    error: str
    status_code: int | None = None
    by_caller: bool = False


def ended_by_caller(success: bool, error: str | None, status_code: int | None) -> bool:
    """Whether the caller caused the failure of an attempt; ``ledger.schema.BY_CALLER`` is the same in SQL.

    So it is where the caller cancelled or disconnected, where another attempt of the request was answered first, and
    where the request was invalid, or larger than a limit of the account's. Not among the 4xx are errors of the account
    (401, 402, 403, and what its reason says), timeouts and conflicts (408, 409) and the provider's limits (429).
    """
    if success:
        return False
    if error in CALLERS_ERRORS:
        return True
    if (error or "").endswith(TOO_LARGE):
        return True
    by_account = (error or "").endswith((EXHAUSTED, KEY_REFUSED))
    return 400 <= (status_code or 0) < 500 and status_code not in PROVIDER_4XX and not by_account
