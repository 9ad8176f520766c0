"""Whose fault an HTTP status is: the one table from which every decision about a status is taken."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class StatusFault(Enum):
    """Who or what has to change before the same request can succeed."""

    CALLER = "caller"  # the request itself: no provider accepts it
    ACCOUNT = "account"  # the key, the permissions or the balance
    TRANSIENT = "transient"  # nothing: the same request may succeed at once
    RATE_LIMIT = "rate limit"  # time: a limit is used up
    SERVER = "server"  # the provider


FAULTS: Final[Mapping[int, StatusFault]] = {
    400: StatusFault.CALLER,
    401: StatusFault.ACCOUNT,
    402: StatusFault.ACCOUNT,
    403: StatusFault.ACCOUNT,
    404: StatusFault.CALLER,
    405: StatusFault.CALLER,
    408: StatusFault.TRANSIENT,
    409: StatusFault.TRANSIENT,
    413: StatusFault.CALLER,
    415: StatusFault.CALLER,
    422: StatusFault.CALLER,
    429: StatusFault.RATE_LIMIT,
}

_SENT_AGAIN: Final = frozenset({408, 425, 429})  # statuses below 500


def fault_of(status: int) -> StatusFault | None:
    """Whose fault ``status`` is; ``None`` for a success, a redirection, and a 4xx that providers do not document."""
    return StatusFault.SERVER if status >= 500 else FAULTS.get(status)


def is_sent_again(status: int) -> bool:
    """Whether an alert or an event that a receiver answers with ``status`` may be accepted later."""
    return status >= 500 or status in _SENT_AGAIN


def _statuses(fault: StatusFault) -> frozenset[int]:
    return frozenset(status for status, found in FAULTS.items() if found is fault)


CALLER_STATUSES: Final = _statuses(StatusFault.CALLER)  # a request that fails with one of these failed by its caller
KEY_REFUSED: Final = _statuses(StatusFault.ACCOUNT) - {402}  # another key of the same model group may be accepted
PROVIDER_4XX: Final = frozenset(FAULTS) - CALLER_STATUSES  # the ledger counts every other 4xx as the caller's
ELSEWHERE: Final = frozenset({402, 404})  # of this account or deployment: another of the same group may have the model
REQUEST_REFUSED: Final = CALLER_STATUSES - ELSEWHERE  # no repetition and no other model helps
