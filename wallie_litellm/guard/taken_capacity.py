"""What an attempt holds of the limits that it passes: those of its feature, model, account and provider."""

from __future__ import annotations

from wallie_litellm.core.demand import NOTHING
from wallie_litellm.guard.context import Attempt
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.registry import Account
from wallie_litellm.limiter.store import Reservation


def in_order(
    feature: Limiter | None, model: Limiter | None, account: Account | None, provider: Limiter
) -> list[Limiter]:
    """The limiters of an attempt. The provider's comes last: its capacity is not held while another is waited for."""
    in_order = (feature, model, None if account is None else account.limiter, provider)
    return [one for one in in_order if one is not None]


def give_back(taken: list[tuple[Limiter, Reservation]]) -> None:
    """End reservations of an attempt that is not made."""
    for limiter, reservation in taken:
        limiter.settle(reservation, NOTHING)


def hand_over(
    attempt: Attempt,
    taken: list[tuple[Limiter, Reservation]],
    provider: Limiter,
    feature: Limiter | None,
    model: Limiter | None,
) -> None:
    """Have the attempt hold what was taken for it, by whose limits it is."""
    for limiter, reservation in taken:
        if limiter is provider:
            attempt.reservation = reservation
        elif limiter is feature:
            attempt.feature_reservation = limiter, reservation
        elif limiter is model:
            attempt.model_reservation = limiter, reservation
        else:
            attempt.account_reservation = limiter, reservation
