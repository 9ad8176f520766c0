"""A limiter's state as status reports show it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import floor
from typing import Any, Final

from wallie_litellm.core.circuit_breaker import BreakerState, health_of
from wallie_litellm.core.dimensions import DIMENSIONS
from wallie_litellm.core.iso_time import reset_time
from wallie_litellm.core.provider_names import account_name, digest_in
from wallie_litellm.core.scopes import account_in, model_in
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limiter_state import LimiterState
from wallie_litellm.limiter.registry import Account, LimiterRegistry
from wallie_litellm.limiter.store import LimitUsage

_HEALTHS: Final = ("healthy", "degraded", "down")
_DOWN: Final = 2  # its place among them


def describe_all(limiters: Mapping[str, Limiter], wall: float) -> dict[str, Any]:
    """The state of all ``limiters``, by name; ``wall`` is the present Unix time."""
    return {name: describe(limiter.state(), wall) for name, limiter in sorted(limiters.items())}


def waiting_requests(limiters: LimiterRegistry) -> dict[str, int]:
    """How many requests wait, by provider and feature; those for an account or a model are with its provider."""
    found: dict[str, int] = {}
    for limiter in limiters:
        name = limiter.name if limiter.is_feature else limiters.provider_name(limiter.name)
        found[name] = found.get(name, 0) + limiter.state().waiting
    return found


def describe_providers(limiters: LimiterRegistry, wall: float, rejected: Collection[str] = ()) -> dict[str, Any]:
    """:func:`describe_all` providers, with the accounts of those that are called with several keys, by their digests.

    A provider all of whose accounts are down, or paused, is so too. Models that are paused, or whose breakers are not
    closed or count failures, are with their provider, or with the account for which they are; one all of whose models
    are paused, or all of whose models called lately are open, is so too. With the provider are the models that have
    limits of their own, by the pattern of these, and the names of those that are called. The last answer of those in
    ``rejected`` was a rate limit: they are degraded, and so is what is paused, or has a model that is.
    """
    accounts = limiters.listed_accounts
    described = {
        name: _with_models(limiters, limiter, wall) for name, limiter in sorted(limiters.listed_providers.items())
    }
    for name, account in sorted(accounts.items()):
        if account.provider.name not in described:
            continue
        own = _with_models(limiters, account.limiter, wall)
        shown = {key: own[key] for key in ("health", "breaker", "in_flight", "waiting")}
        shown["paused_for"] = limiters.paused_for(name)
        described[account.provider.name].setdefault("accounts", {})[digest_in(name)] = shown
    for name, provider in described.items():
        provider["paused_for"] = limiters.paused_for(name)
        for pattern, own in provider.get("models", {}).items():
            own["paused_for"] = _pause_under(limiters, limiters.provider(name), pattern)
    for limiter in sorted(limiters.models, key=lambda limiter: limiter.name):
        state = limiter.state()
        owner = _described(described, accounts, account_in(limiter.name))
        if owner is not None:
            owner["waiting"] += state.waiting
            if state.paused_for or state.breaker is not BreakerState.CLOSED or state.consecutive_failures:
                own = describe(state, wall)
                shown = owner.setdefault("models", {}).setdefault(model_in(limiter.name), {"waiting": 0})
                shown["waiting"] += state.waiting
                shown.update({key: own[key] for key in ("health", "breaker", "paused_for")})
    for name, provider in described.items():
        provider["called_models"] = limiters.called_models(name)
        _degrade(provider, is_rejected=name in rejected)
        for digest, own in provider.get("accounts", {}).items():
            _degrade(own, is_rejected=account_name(name, digest) in rejected)
    for provider in described.values():
        if own_accounts := list(provider.get("accounts", {}).values()):
            provider["paused_for"] = max(provider["paused_for"], min(one["paused_for"] for one in own_accounts))
            provider["waiting"] += sum(one["waiting"] for one in own_accounts)
            worst = max(_HEALTHS.index(one["health"]) for one in own_accounts)
            best = min(_HEALTHS.index(one["health"]) for one in own_accounts)
            seen = best if best == _DOWN else min(worst, _DOWN - 1)
            provider["health"] = _HEALTHS[max(seen, _HEALTHS.index(provider["health"]))]
    return described


def _pause_under(limiters: LimiterRegistry, limiter: Limiter, pattern: str) -> float:
    """Seconds for which all models that routers call under ``pattern`` are paused."""
    scopes = limiters.models_under(limiter, pattern)
    paused = [model.state().paused_for if (model := limiters.models.get(scope)) else 0.0 for scope in scopes]
    return min(paused, default=0.0)


def _with_models(limiters: LimiterRegistry, limiter: Limiter, wall: float) -> dict[str, Any]:
    """:func:`describe` a provider, or an account, and let its breaker be that of it and its models together."""
    state, overall = limiter.state(), limiters.overall(limiter.name)
    if overall.state is not state.breaker:
        of_models = [model.state() for model in limiters.models.of(limiter.name)]
        first = min(
            (one for one in of_models if one.breaker is overall.state), key=lambda one: one.next_probe_in, default=state
        )
        state = replace(
            state, breaker=overall.state, breaker_reason=first.breaker_reason, next_probe_in=first.next_probe_in
        )
    described = describe(replace(state, consecutive_failures=overall.failures), wall)
    return {**described, "health": overall.health}


def _described(
    described: Mapping[str, dict[str, Any]], accounts: Mapping[str, Account], name: str
) -> dict[str, Any] | None:
    """What is described under the name of a provider or an account; ``None`` if it is not listed."""
    account = accounts.get(name)
    if account is None:
        return described.get(name)
    own_accounts = described.get(account.provider.name, {}).get("accounts", {})
    found: dict[str, Any] | None = own_accounts.get(digest_in(name))
    return found


def _degrade(described: dict[str, Any], *, is_rejected: bool) -> None:
    paused = any(model["paused_for"] > 0 for model in described.get("models", {}).values())
    is_held_back = is_rejected or described["paused_for"] > 0 or paused
    if described["health"] == "healthy" and is_held_back:
        described["health"] = "degraded"


def describe(state: LimiterState, wall: float) -> dict[str, Any]:
    """The state of one limiter as plain JSON-ready data; ``wall`` is the present Unix time."""
    next_probe = state.next_probe_in if state.breaker is BreakerState.OPEN else None
    return {
        "health": health_of(state.breaker, state.consecutive_failures),
        "breaker": {
            "state": state.breaker.value,
            "reason": state.breaker_reason,
            "consecutive_failures": state.consecutive_failures,
            "next_probe_in": next_probe,
        },
        "paused_for": state.paused_for,
        "in_flight": state.in_flight,
        "waiting": state.waiting,
        "quota": _quota(state.usage, wall),
        **({"models": _models(state, wall)} if state.models else {}),
    }


def _models(state: LimiterState, wall: float) -> dict[str, Any]:
    return {
        pattern: {"quota": _quota(own.usage, wall), "paused_for": 0.0, "waiting": own.waiting}
        for pattern, own in state.models.items()
    }


def _quota(usage: Mapping[str, LimitUsage], wall: float) -> dict[str, Any]:
    """The quota of each dimension; ``exhausts_at`` of a limit per day is left to forecasts."""
    return {
        dimension: {
            "used": usage[dimension].units,
            "limit": usage[dimension].limit,
            "utilization": usage[dimension].utilization,
            "left": floor(usage[dimension].left + 1e-6),
            "reset_at": reset_time(wall, usage[dimension].reset_in),
            "exhausts_at": None if (seconds := usage[dimension].exhausted_in) is None else reset_time(wall, seconds),
            **usage[dimension].balance._asdict(),
        }
        for dimension in DIMENSIONS
        if dimension in usage
    }
