"""The error that a request gets for a limiter's denial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.core.scopes import account_in, in_words, model_in
from wallie_litellm.errors import CircuitOpen, RateLimited, Refused, RequestTooLarge
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.store import Denial, DenialReason

_IN_LINE: Final = (
    RateLimited,
    "{0.subject} has other requests in line{0.after}; there is no telling whether this one can be served in time.",
)
_TOO_LATE: Final = "it has capacity in {0.wait} s, longer than this request may wait."

# For each reason, the error's class and its message; the fields in braces are those of `_Refusal`.
_ERRORS: Final[Mapping[DenialReason, tuple[type[Refused], str]]] = {
    DenialReason.CIRCUIT_OPEN: (CircuitOpen, "{0.circuit} is open{0.after}{0.breaker_reason}."),
    DenialReason.TOO_LARGE: (
        RequestTooLarge,
        "The request is larger than {0.owner}'s whole {0.dimension} limit{0.models} of {0.capacity:.0f}: it could "
        "never be served there. Shorten it, lower max_tokens, or raise {0.setting}.{0.dimension}.",
    ),
    DenialReason.GUARD_CLOSED: (RateLimited, "{0.subject} cannot be waited for: the guard was closed."),
    DenialReason.ABANDONED: (RateLimited, "{0.subject} cannot be waited for: the wait was abandoned."),
    DenialReason.CONCURRENCY: (
        RateLimited,
        "{0.subject} is at its concurrency limit{0.models}{0.after}{0.limit_setting}; a place is free as soon as a "
        "call ends.",
    ),
    DenialReason.STORE_DOWN: (
        RateLimited,
        "{0.subject} cannot be called: the shared store does not answer, and wallie.store.on_store_error is closed.",
    ),
    DenialReason.QUEUED: _IN_LINE,
    DenialReason.LEASE_REQUESTED: _IN_LINE,
    DenialReason.PAUSED: (RateLimited, "{0.subject} asked to be left alone{0.after}; " + _TOO_LATE),
    DenialReason.LIMIT: (
        RateLimited,
        "{0.subject} is at its {0.dimension} limit{0.models}{0.after}{0.limit_setting}; " + _TOO_LATE,
    ),
}


def refusal(denial: Denial, limiter: Limiter, group: str, *, provider: str, waited: float, open_for: float) -> Refused:
    """The error for ``denial`` by ``limiter``, of ``provider``, of one of its accounts or of a model.

    ``waited`` is how many seconds the request has waited already; ``open_for`` is the ``retry_after`` of a breaker
    that only an operator closes again.
    """
    error, message = _ERRORS[denial.reason]
    retry_after = denial.retry_after
    if denial.reason is DenialReason.CIRCUIT_OPEN and not math.isfinite(retry_after):
        retry_after = open_for
    elif denial.reason is DenialReason.CONCURRENCY:
        retry_after = max(1.0, retry_after)
    text = message.format(_Refusal(denial, limiter, waited))
    return error(text, provider=provider, model=group, retry_after=retry_after)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What the messages say of a denial; each field is looked up only where a message has it."""

    denial: Denial
    limiter: Limiter
    waited: float

    @property
    def circuit(self) -> str:
        model = model_in(self.limiter.name)
        return f"{account_in(self.limiter.name)}'s circuit" + (f" for {model}" if model else "")

    @property
    def owner(self) -> str:
        """The provider or feature that the limits are those of, inside a sentence."""
        return f"the feature {self._feature}" if self.limiter.is_feature else self.limiter.name

    @property
    def subject(self) -> str:
        """The same at the beginning of a sentence."""
        return f"The feature {self._feature}" if self.limiter.is_feature else in_words(self.limiter.name)

    @property
    def setting(self) -> str:
        """The key path in the configuration under which the limits are set."""
        if self.limiter.is_feature:
            return f"wallie.features.{self._feature}.limits"
        models = f".models.{self.denial.scope}" if self.denial.scope else ""
        return f"wallie.providers.{self.limiter.name}{models}"

    @property
    def models(self) -> str:
        """Whose limit it is, where it is not that of all models."""
        return f" for {self.denial.scope}" if self.denial.scope else ""

    @property
    def limit_setting(self) -> str:
        """A feature's limits and a model's are rarer than a provider's: the message says where they are set."""
        return f" ({self.setting}.{self.dimension})" if self.limiter.is_feature or self.denial.scope else ""

    @property
    def after(self) -> str:
        return f" after waiting {self.waited:.1f} s" if self.waited >= 0.1 else ""

    @property
    def wait(self) -> str:
        """Seconds, rounded up: none is shown as over."""
        seconds = self.denial.retry_after
        return f"{max(1, math.ceil(seconds * 10 - 1e-6)) / 10:.1f}" if math.isfinite(seconds) else str(seconds)

    @property
    def dimension(self) -> str:
        return self.denial.dimension or ""

    @property
    def capacity(self) -> float:
        return self.limiter.capacity(self.dimension, self.denial.scope)

    @property
    def breaker_reason(self) -> str:
        reason = self.limiter.state().breaker_reason
        return f" ({reason})" if reason else ""

    @property
    def _feature(self) -> str:
        return self.limiter.name.removeprefix(FEATURE)
