"""A provider's limits as reports show them: configured, learned, in force and used, by scope and dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wallie_litellm.config.limits import ProviderLimits, beside_limits
from wallie_litellm.core.dimensions import DIMENSIONS
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.limiter.learn_rules import LearnRules
from wallie_litellm.limiter.limit_learning import LimitLearning
from wallie_litellm.limiter.store import LimitUsage


def describe_limits(learning: LimitLearning, settings: ProviderLimits | None) -> dict[str, Any]:
    """All limits of a provider, by scope; the empty one is the account's. ``settings`` are those of the file."""
    state = learning.limiter.state()
    beside = beside_limits(learning.limiter.name, settings)
    usage = {ACCOUNT: state.usage, **{scope: own.usage for scope, own in state.models.items()}}
    return {
        scope: {
            "learn": learning.rules_of(scope).mode,
            "settings": beside.get(scope, {}),
            "limits": _describe_scope(learning, scope, usage.get(scope, {})),
        }
        for scope in learning.scopes()
    }


def add_learned(learning: LimitLearning | None, described: Mapping[str, Any]) -> None:
    """Add what the vendor has said, if it was asked yet, to each quota of a provider as status reports show it."""
    quotas = {ACCOUNT: described["quota"]}
    quotas |= {scope: own["quota"] for scope, own in described.get("models", {}).items() if "quota" in own}
    for scope, quota in quotas.items():
        for dimension, shown in quota.items():
            shown["learned"] = None if learning is None else learning.learned(scope, dimension)


def _describe_scope(learning: LimitLearning, scope: str, usage: Mapping[str, LimitUsage]) -> dict[str, Any]:
    rules = learning.rules_of(scope) if learning.is_stated(scope) else LearnRules()
    described: dict[str, Any] = {}
    for dimension in DIMENSIONS:
        said, used = learning.said(scope, dimension), usage.get(dimension)
        if dimension in rules.stated or dimension in rules.autos or said is not None or used is not None:
            seen = None if said is None else learning.wall() - (learning.now() - said[1])
            described[dimension] = {
                "configured": "auto" if dimension in rules.autos else rules.stated.get(dimension),
                "learned": learning.learned(scope, dimension),
                "source": None if said is None else said[0],
                "seen_at": None if seen is None else iso_time(seen, "seconds"),
                "limit": None if used is None else used.limit,
                "used": None if used is None else used.units,
                "left": None if used is None else used.left,
            }
    return described
