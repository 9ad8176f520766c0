"""Every error this package raises.

::

    WallieError
    ├── ConfigError               the configuration cannot be used; every problem is listed
    │   └── PackageMissing        the installation lacks a package that a call needs; says what to install
    ├── Refused                   an attempt that was not made, with a reason and ``retry_after``
    │   ├── RateLimited           429  the provider's limit, or a pause it asked for, takes too long to wait out
    │   │   └── RequestTooLarge   429  the request is bigger than a whole limit: it can never be served
    │   ├── BudgetExhausted       429  what the feature or the user may spend is spent
    │   └── CircuitOpen           503  the provider is not being called after failures, or by an operator's action
    ├── UnknownTier               400  a request is for a tier that the configuration does not have
    ├── TierForbidden             403  the proxy's key may not use the tier that a request is for
    ├── DeadlineExceeded          504  the caller's deadline passed (also a ``TimeoutError``)
    └── ChainExhausted            429 or 503  no member of the chain could serve; names each and why

``retry_after`` is in seconds; ``inf`` means that waiting does not help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import Any


class WallieError(Exception):
    """The root of the tree. ``code`` is stable and meant for programs; ``status_code`` is HTTP's."""

    status_code = 500
    code = "wallie_error"
    num_retries = 0  # LiteLLM's Router reads it, and neither retries nor sleeps

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        # No attribute named ``message``: LiteLLM's Router appends its own advice to an error's message.
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickling calls the class with its message alone by default, which most of these do not accept.
        return _restored, (type(self), self.args, self.__dict__)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that belong to the error: ``Retry-After`` in whole seconds, where it is known.

        OpenAI's clients read ``x-should-retry``: false where asking again cannot help.
        """
        if self.retry_after is None:
            return {}
        if not isfinite(self.retry_after):
            return {"x-should-retry": "false"}
        return {"Retry-After": str(max(1, ceil(self.retry_after)))}


def _restored(kind: type[WallieError], args: tuple[Any, ...], state: dict[str, Any]) -> WallieError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(WallieError):
    """The configuration cannot be used. ``problems`` has a line for each mistake."""

    code = "wallie_config_invalid"

    def __init__(self, problems: Sequence[str], path: str | None = None) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.path = path


class PackageMissing(ConfigError):
    """The installation lacks a package that a call needs."""

    code = "wallie_package_missing"


class Refused(WallieError):
    """An attempt was not made. Nothing was consumed."""

    reason = "refused"
    retry_after: float

    def __init__(self, message: str, *, provider: str, retry_after: float, model: str | None = None) -> None:
        super().__init__(message, retry_after)
        self.provider = provider
        self.model = model


class RateLimited(Refused):
    """Capacity of the provider, or of the feature, would come later than this request may wait."""

    status_code = 429
    code = "wallie_rate_limited"
    reason = "rate limit"


class RequestTooLarge(RateLimited):
    """The request asks for more than a limit's whole capacity."""

    code = "wallie_request_too_large"
    reason = "request too large"


class BudgetExhausted(Refused):
    """What the feature, or the user, may spend in this day or month is spent, or may be by what is under way.

    ``retry_after`` is until the budget begins anew. ``x-should-retry`` keeps OpenAI's clients from asking again.
    """

    status_code = 429
    code = "wallie_budget_exhausted"
    reason = "budget exhausted"

    @property
    def headers(self) -> dict[str, str]:
        """``Retry-After``, and ``x-should-retry: false``."""
        return {**super().headers, "x-should-retry": "false"}


class CircuitOpen(Refused):
    """The provider's breaker admits no request at the moment."""

    status_code = 503
    code = "wallie_circuit_open"
    reason = "circuit open"


class UnknownTier(WallieError):
    """A request is for a tier that the configuration does not have."""

    status_code = 400
    code = "wallie_unknown_tier"


class TierForbidden(WallieError):
    """The proxy's key may not use the tier that a request is for."""

    status_code = 403
    code = "wallie_tier_forbidden"


class DeadlineExceeded(WallieError, TimeoutError):
    """The caller's deadline passed before an answer came."""

    status_code = 504
    code = "wallie_deadline_exceeded"


@dataclass(frozen=True, slots=True)
class MemberFailure:
    """Why one member of a chain did not serve. ``retry_after`` is in seconds, ``None`` where unknown."""

    model: str
    provider: str
    reason: str
    retry_after: float | None = None
    status_code: int | None = None

    @property
    def place(self) -> str:
        """The provider and the model, or the model alone where no provider is known for it."""
        return f"{self.provider} ({self.model})" if self.provider else self.model


class ChainExhausted(WallieError):
    """No member of the chain could serve the request.

    The status is 429 when every member failed with a 429, else 503; ``retry_after`` is the soonest of
    the members'.
    """

    code = "wallie_chain_exhausted"

    def __init__(self, failures: Sequence[MemberFailure]) -> None:
        self.failures = tuple(failures)
        waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
        soonest = min(waits, default=None)
        reasons = "; ".join(f"{failure.place}: {failure.reason}" for failure in failures)
        hint = "" if soonest is None or soonest == inf else f". Try again in {soonest:.1f} s"
        super().__init__(f"No provider could serve the request. {reasons}{hint}", soonest)
        self.status_code = 429 if all(failure.status_code == 429 for failure in failures) else 503
