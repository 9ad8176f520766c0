"""The guard's events as PostHog's: their names and properties, without the SDK.

``ai.request.completed`` and ``ai.request.failed`` describe one request each, with the figures of the attempt that
served it, else of its last; ``wastedTokens`` and ``wastedCostUsd`` are those of its other attempts, so that the sums
equal the ledger's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.events import (
    ArmStopped,
    BudgetCrossed,
    Ended,
    ErrorRateCrossed,
    Event,
    ExhaustionForeseen,
    FellBack,
    HealthChanged,
    LimitOverstated,
    OrderChanged,
    QueueCrossed,
    QuotaCrossed,
    Settled,
    Unpriced,
)
from wallie_litellm.telemetry.sinks.posthog_values import plain, text

COMPLETED: Final = "ai.request.completed"
FAILED: Final = "ai.request.failed"
HEALTH: Final = "ai.provider.health"
QUOTA: Final = "ai.quota.alert"
FALLBACK: Final = "ai.fallback.triggered"
ORDER: Final = "ai.order.changed"

Properties = dict[str, Any]


class Captured(NamedTuple):
    """One PostHog event; ``user_id`` is ``None`` for an event without a user."""

    name: str
    user_id: str | None
    properties: Properties


def captured(event: Event) -> Captured | None:
    """The PostHog event of ``event``; ``None`` for one that is not sent."""
    translate = _TRANSLATIONS.get(type(event))
    return None if translate is None else translate(event)


def _ended(event: Ended) -> Captured:
    user_id = text(event.user_id)
    properties: Properties = {
        "provider": event.provider,
        "model": text(event.model),
        # Named by the caller, as user and feature are.
        "requestedModel": text(event.model if event.requested is None else event.requested),
        "requestId": event.request_id,
        "operation": event.operation,
        "stream": event.stream,
        "success": event.success,
        "latencyMs": round(event.latency_ms, 3),
        "waitedMs": round(event.waited_ms, 3),
        "attempts": len(event.settled),
        "usedFallback": event.used_fallback,
        "statusCode": event.status_code,
        "byCaller": event.by_caller,
        "userId": user_id,
        "feature": text(event.feature),
        **({} if event.proxy_key is None else {"proxyKey": text(event.proxy_key)}),
        "metadata": plain(event.metadata),
        **_figures(event),
        **_decided(event),
    }
    if event.success:
        return Captured(COMPLETED, user_id, properties)
    properties["error"] = event.error or "unknown"
    return Captured(FAILED, user_id, properties)


def _figures(event: Ended) -> Properties:
    """Tokens and money. A request without an attempt has spent nothing."""
    if not event.settled:
        return {**_NOTHING_SPENT}
    last = event.served or event.settled[-1]
    others = [attempt for attempt in event.settled if attempt is not last]
    figures: Properties = {
        "deployment": last.deployment,
        "promptTokens": last.prompt_tokens,
        "completionTokens": last.completion_tokens,
        "totalTokens": last.total_tokens,
        "firstTokenMs": last.first_token_ms,
        "cachedTokens": last.cached_tokens,
        "cacheWriteTokens": last.cache_write_tokens or 0,
        "reasoningTokens": last.reasoning_tokens,
        "costUsd": None if last.unpriced else last.cost_usd,
        "unpriced": last.unpriced,
        "estimated": last.estimated,
        "wastedTokens": sum(attempt.total_tokens for attempt in others),
        "wastedCostUsd": _cost(others),
    }
    # The provider of a request that was refused last had no attempt: the last attempt's group is another provider's.
    if last.provider == event.provider:
        figures["model"] = last.model
    return figures


def _decided(event: Ended) -> Properties:
    """What routing decided; nothing of what it did not."""
    decided: Properties = {
        "tier": event.tier,
        "experiment": event.experiment,
        "arm": event.arm,
        "autoTier": event.auto_tier,
        "autoSavedUsd": event.auto_saved_usd,
        "plannedModel": event.order,
        "hedged": event.hedged or None,
        "cacheHit": event.cache_hit or None,
        "savedUsd": event.saved_usd,
        "why": list(event.why) or None,
    }
    return {name: value for name, value in decided.items() if value is not None}


_NOTHING_SPENT: Final[Mapping[str, Any]] = {
    "deployment": None,
    "promptTokens": 0,
    "completionTokens": 0,
    "totalTokens": 0,
    "firstTokenMs": None,
    "cachedTokens": 0,
    "cacheWriteTokens": 0,
    "reasoningTokens": 0,
    "costUsd": 0.0,
    "unpriced": False,
    "estimated": False,
    "wastedTokens": 0,
    "wastedCostUsd": 0.0,
}


def _cost(attempts: Sequence[Settled]) -> float | None:
    """The sum of the known costs in US dollars; ``None`` when something was billed and none is known."""
    known = [attempt.cost_usd for attempt in attempts if attempt.cost_usd is not None and not attempt.unpriced]
    unknown = any(attempt.unpriced for attempt in attempts)
    return None if unknown and not known else sum(known, 0.0)


def _fell_back(event: FellBack) -> Captured:
    user_id = text(event.user_id)
    return Captured(
        FALLBACK,
        user_id,
        {
            "from": event.from_model,
            "to": event.to_model,
            "fromProvider": event.from_provider,
            "reason": event.reason,
            "requestId": event.request_id,
            "feature": text(event.feature),
            "userId": user_id,
        },
    )


def _health_changed(event: HealthChanged) -> Captured:
    return Captured(
        HEALTH,
        None,
        {
            "provider": event.provider,
            "status": event.status,
            "before": event.before,
            "reason": event.reason,
            **({} if event.model is None else {"model": event.model}),
        },
    )


def _order_changed(event: OrderChanged) -> Captured:
    return Captured(
        ORDER,
        None,
        {
            "chain": list(event.chain),
            "stream": event.stream,
            "before": list(event.before),
            "after": list(event.after),
            "reason": event.reason,
        },
    )


def _quota_crossed(event: QuotaCrossed) -> Captured:
    return Captured(
        QUOTA,
        None,
        {
            "provider": event.provider,
            "type": event.level,
            "dimension": event.dimension,
            "utilization": _share(event.utilization),
            "used": event.used,
            "limit": event.limit,
            "resetIn": event.reset_in if isfinite(event.reset_in) else None,
            **({} if event.model is None else {"model": event.model}),
        },
    )


def _exhaustion_foreseen(event: ExhaustionForeseen) -> Captured:
    times = {"exhaustsAt": event.exhausts_at, "earliest": event.earliest, "latest": event.latest}
    return Captured(
        QUOTA,
        None,
        {
            "provider": event.provider,
            "type": "forecast",
            "dimension": event.dimension,
            "utilization": _share(event.expected / event.limit),
            "expected": event.expected,
            "limit": event.limit,
            **{name: None if at is None else iso_time(at, "milliseconds") for name, at in times.items()},
            "resetAt": iso_time(event.reset_at, "milliseconds"),
            "method": event.method,
            **({} if event.model is None else {"model": event.model}),
        },
    )


def _overstated(event: LimitOverstated) -> Captured:
    return Captured(
        QUOTA,
        None,
        {
            "provider": event.provider,
            "type": "limit_overstated",
            "dimension": event.dimension,
            "model": event.model,
            "configured": event.configured,
            "limit": event.learned,
        },
    )


def _arm_stopped(event: ArmStopped) -> Captured:
    return Captured(
        QUOTA,
        None,
        {
            "type": "arm_stopped",
            "dimension": "error_rate",
            "experiment": event.experiment,
            "arm": event.arm,
            "utilization": _share(event.error_rate),
            "used": event.error_rate,
            "limit": event.limit,
        },
    )


def _error_rate(event: ErrorRateCrossed) -> Captured:
    return Captured(
        QUOTA,
        None,
        {
            **({"provider": event.provider} if event.provider else {"model": event.model}),
            "type": "error_rate",
            "dimension": "error_rate",
            "utilization": _share(event.error_rate),
            "used": event.error_rate,
            "limit": event.limit,
            "failed": event.failed,
            "requests": event.requests,
            **_episode(event),
        },
    )


def _queue(event: QueueCrossed) -> Captured:
    return Captured(
        QUOTA,
        None,
        {
            "provider": event.provider,
            "type": "queue",
            "dimension": "queue",
            "utilization": _share(event.waiting / event.limit),
            "used": event.waiting,
            "limit": event.limit,
            **_episode(event),
        },
    )


def _episode(event: ErrorRateCrossed | QueueCrossed) -> dict[str, Any]:
    return {"window": event.window, "resolved": event.resolved, "lasted": event.lasted}


def _unpriced(event: Unpriced) -> Captured:
    return Captured(
        QUOTA,
        None,
        {
            "provider": event.provider,
            "type": "unpriced",
            "dimension": "cost",
            "model": event.model,
            "deployment": event.deployment,
        },
    )


def _budget_crossed(event: BudgetCrossed) -> Captured:
    return Captured(
        QUOTA,
        None,
        {
            "type": "budget",
            "level": event.level,
            "dimension": "cost",
            "utilization": _share(event.utilization),
            "used": event.spent_usd,
            "limit": event.budget_usd,
            "month": event.month,
            **({} if event.on_exhausted is None else _of_file(event)),
        },
    )


def _of_file(event: BudgetCrossed) -> dict[str, Any]:
    """What only a budget of the file has."""
    own = {"window": event.window, "feature": event.feature, "onExhausted": event.on_exhausted}
    own |= {} if event.proxy_key is None else {"proxyKey": event.proxy_key}
    return own if event.user_id is None else {**own, "userId": event.user_id}


def _share(utilization: float) -> float:
    """``utilization`` from 0 to 1; ``used`` and ``limit`` show how far above 1 it is."""
    return min(1.0, max(0.0, utilization))


_TRANSLATIONS: Mapping[type, Callable[[Any], Captured]] = {
    Ended: _ended,
    FellBack: _fell_back,
    HealthChanged: _health_changed,
    OrderChanged: _order_changed,
    QuotaCrossed: _quota_crossed,
    ExhaustionForeseen: _exhaustion_foreseen,
    LimitOverstated: _overstated,
    ArmStopped: _arm_stopped,
    ErrorRateCrossed: _error_rate,
    QueueCrossed: _queue,
    Unpriced: _unpriced,
    BudgetCrossed: _budget_crossed,
}
