"""What the choice of ``auto`` has saved, or in shadow would have: by prices, on the tokens that were really used."""

from __future__ import annotations

from wallie_litellm.core.demand import Outcome
from wallie_litellm.guard.context import RequestContext
from wallie_litellm.routing.plan import Decided


def note_saving(context: RequestContext, decided: Decided) -> None:
    """Note it in what was ``decided`` for a request that was served; nothing where a price is not known.

    What was chosen is compared with ``complex``'s first group, and in shadow what was used with the chosen tier's. The
    same tokens are priced: another model would have counted and written others.
    """
    served = context.served_by
    if decided.auto_against is None or served is None or served.result is None:
        return
    if served.result.outcome is not Outcome.SUCCESS:
        return
    paid = context.attempts[-1].cost_usd if context.attempts else None
    router = context.route.router
    entry = router.first_of(decided.auto_against)
    if paid is None or entry is None:
        return
    same = served.group == decided.auto_against
    other = paid if same else router.quote(context.operation, entry, served.result)
    if other is not None:
        decided.auto_saved_usd = saved = paid - other if decided.shadow else other - paid
        if decided.on_saved is not None:
            decided.on_saved(saved)
