"""Whose fault an HTTP status is: the one table from which every decision about a status is taken."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Fault(Enum):
    """Who or what has to change before the same request can succeed."""

    CALLER = "caller"  # the request itself: no provider accepts it
    ACCOUNT = "account"  # the key, the permissions or the balance
    TRANSIENT = "transient"  # nothing: the same request may succeed at once
    RATE_LIMIT = "rate limit"  # time: a limit is used up
    SERVER = "server"  # the provider


FAULTS: Final[Mapping[int, Fault]] = {
    400: Fault.CALLER,
    401: Fault.ACCOUNT,
    402: Fault.ACCOUNT,
    403: Fault.ACCOUNT,
    404: Fault.CALLER,
    405: Fault.CALLER,
    408: Fault.TRANSIENT,
    409: Fault.TRANSIENT,
    413: Fault.CALLER,
    415: Fault.CALLER,
    422: Fault.CALLER,
    429: Fault.RATE_LIMIT,
}


def fault_of(status: int) -> Fault | None:
    """Whose fault ``status`` is; ``None`` for a success, a redirection, and a 4xx that providers do not document."""
    return Fault.SERVER if status >= 500 else FAULTS.get(status)


def _statuses(fault: Fault) -> frozenset[int]:
    return frozenset(status for status, found in FAULTS.items() if found is fault)


CALLER_STATUSES: Final = _statuses(Fault.CALLER)  # a request that fails with one of these failed by its caller
KEY_REFUSED: Final = _statuses(Fault.ACCOUNT) - {402}  # another key of the same model group may be accepted
PROVIDER_4XX: Final = frozenset(FAULTS) - CALLER_STATUSES  # the ledger counts every other 4xx as the caller's
