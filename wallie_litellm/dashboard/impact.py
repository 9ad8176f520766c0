"""Whether callers are hurt: what is wrong with providers, worst first, and one sentence that says it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from wallie_litellm.dashboard.recent_traffic import Impact, RecentTraffic, Trouble
from wallie_litellm.dashboard.translations import Translator
from wallie_litellm.dashboard.view_model import FeatureLimits, Provider
from wallie_litellm.ledger.figures import Transition

NAMED: Final = 3  # providers that the sentence names
DESTINATIONS: Final = 2  # models that it names as where requests went
_WORST_FIRST: Final = ("stopped", "down", "paused", "degraded")
SEVERE: Final = frozenset({"stopped", "down"})  # of others the sentence speaks only where there are none of these
_STOPPED: Final = "forced_open"

Write = Callable[[float], str]  # a number, or a time of day, as text


def assess_impact(
    providers: Sequence[Provider],
    features: Sequence[FeatureLimits],
    changes: Sequence[Transition],
    recent: RecentTraffic | None,
) -> Impact:
    """What is wrong now; ``changes`` of breakers and health, the latest first, say since when."""
    troubles = [found for one in providers if (found := _trouble(one, changes)) is not None]
    troubles.sort(key=lambda one: (_WORST_FIRST.index(one.kind), one.provider))
    waiting = [*(one.waiting for one in providers), *(one.waiting for one in features)]
    known = [count for count in waiting if count is not None]
    met = [one for one in providers if one.breaker]
    return Impact(len(met), troubles, sum(known) if known or not met else None, recent)


def sentence(impact: Impact, t: Translator, number: Write, clock: Write) -> str:
    """One plain sentence: what is wrong, and what has become of the requests.

    ``number`` and ``clock`` write a number and a time of day.
    """
    if not impact.providers and not impact.troubles:
        return t("health.none")
    troubles = [one for one in impact.troubles if one.kind in SEVERE] or list(impact.troubles)
    state = _state(troubles, t, clock) if troubles else t("impact.well")
    if impact.recent is None:
        return f"{state}."
    return f"{state}; {_traffic(impact.recent, [one.provider for one in troubles], t, number)}."


def _trouble(one: Provider, changes: Sequence[Transition]) -> Trouble | None:
    if one.breaker == _STOPPED:
        return Trouble(one.name, "stopped", _since(one.name, "breaker", _STOPPED, changes))
    if one.paused_for and one.breaker in ("closed", "disabled"):
        return Trouble(one.name, "paused")
    if one.health in ("down", "degraded"):
        models = tuple(model.name for model in one.models if model.health == "down") if one.health == "degraded" else ()
        return Trouble(one.name, one.health, _since(one.name, "health", one.health, changes), models)
    return None


def _since(provider: str, kind: str, state: str, changes: Sequence[Transition]) -> float | None:
    """When the provider's latest change of this kind was, if it was to ``state``."""
    own = (one for one in changes if one.provider == provider and one.type == kind and not one.model)
    latest = next(own, None)
    return latest.at if latest is not None and latest.after == state else None


def _state(troubles: Sequence[Trouble], t: Translator, clock: Write) -> str:
    parts = [_one(one, t, clock) for one in troubles[:NAMED]]
    if len(troubles) > NAMED:
        parts.append(t("impact.more", count=len(troubles) - NAMED))
    return ", ".join(parts)


def _one(one: Trouble, t: Translator, clock: Write) -> str:
    state = f"{one.provider} {t(f'impact.{one.kind}')}"
    if one.since is not None:
        state += f" {t('impact.since', time=clock(one.since))}"
    if not one.models:
        return state
    more = ", …" if len(one.models) > NAMED else ""
    return f"{state} ({t('impact.models', models=', '.join(one.models[:NAMED]) + more)})"


def _traffic(recent: RecentTraffic, troubled: Sequence[str], t: Translator, number: Write) -> str:
    total, failed = recent.requests.requests, _failed(recent.requests.failures, t, number)
    if not total:
        return t("impact.idle")
    moved = _moved(recent, troubled, t, number)
    if moved:
        return t("impact.moved", moved=moved, failed=failed)
    requests = t("impact.request") if total == 1 else t("impact.requests", count=number(total))
    return t("impact.traffic", requests=requests, failed=failed)


def _moved(recent: RecentTraffic, troubled: Sequence[str], t: Translator, number: Write) -> str:
    """To which models requests went from the providers in trouble."""
    counts: dict[str, int] = {}
    for one in recent.fallbacks:
        if one.provider in troubled:
            counts[one.to_model] = counts.get(one.to_model, 0) + one.count
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    named, rest = ranked[:DESTINATIONS], sum(count for _, count in ranked[DESTINATIONS:])
    parts = [
        t("impact.went_one" if count == 1 else "impact.went", count=number(count), model=model)
        if not position
        else t("impact.to", count=number(count), model=model)
        for position, (model, count) in enumerate(named)
    ]
    return ", ".join([*parts, *([t("impact.elsewhere", count=number(rest))] if rest else [])])


def _failed(count: int, t: Translator, number: Write) -> str:
    if not count:
        return t("impact.none_failed")
    return t("impact.one_failed") if count == 1 else t("impact.failed", count=number(count))
