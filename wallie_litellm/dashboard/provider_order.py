"""The sequence of providers on the page: those in trouble first, then those with most traffic. Pure."""

from __future__ import annotations

from typing import Final

from wallie_litellm.dashboard.health_strip import DEGRADED_FROM
from wallie_litellm.dashboard.view_model import ModelState, Provider, Quota, Snapshot

_WELL: Final = 6  # the rank of a provider without any trouble


def by_trouble(snapshot: Snapshot) -> list[Provider]:
    """All providers: open breakers, errors, pauses and models that are not called, limits near their end, traffic."""
    ranks = {one.name: _rank(one, snapshot) for one in snapshot.providers}
    return sorted(snapshot.providers, key=lambda one: (ranks[one.name], -_attempts(one), one.name))


def unused(snapshot: Snapshot) -> set[str]:
    """The providers that have no trouble and were not called; none where no provider was called at all."""
    called = {one.name for one in snapshot.providers if _attempts(one) or _was_called(one.name, snapshot)}
    if not called:
        return set()
    return {one.name for one in snapshot.providers if one.name not in called and _is_idle(one, snapshot)}


def is_near(quota: Quota) -> bool:
    """Whether a limit needs a look: it is used to a configured share, or will be used up before it resets."""
    return bool(quota.level) or quota.ends[1] is not None


def is_roomy(model: ModelState) -> bool:
    """Whether none of a model's limits needs a look, and nothing waits for them."""
    return model.has_room and not any(map(is_near, model.quotas))


def _rank(one: Provider, snapshot: Snapshot) -> int:
    if one.health == "down":
        return 0
    if one.health == "degraded" or one.failures or _fails(one.name, snapshot):
        return 1
    if one.paused_for or one.paused_models or any(model.is_in_trouble for model in one.models):
        return 2
    quotas = [*one.quotas, *(quota for model in one.models for quota in model.quotas)]
    if any(quota.level == "critical" or quota.ends[1] is not None for quota in quotas):
        return 3
    if any(quota.level for quota in quotas):
        return 4
    return _WELL if one.breaker == "closed" else _WELL - 1


def _fails(name: str, snapshot: Snapshot) -> bool:
    recent = None if snapshot.impact is None else snapshot.impact.recent
    lately = None if recent is None else recent.by_provider.get(name)
    return lately is not None and (lately.error_rate or 0.0) >= DEGRADED_FROM


def _was_called(name: str, snapshot: Snapshot) -> bool:
    cells = () if snapshot.day is None else snapshot.day.cells.get(name, ())
    return any(cell.attempts for cell in cells)


def _is_idle(one: Provider, snapshot: Snapshot) -> bool:
    uses = any(quota.used for quota in one.quotas)
    return not (_rank(one, snapshot) < _WELL or one.in_flight or one.waiting or uses)


def _attempts(one: Provider) -> int:
    return 0 if one.attempts is None else one.attempts.attempts
