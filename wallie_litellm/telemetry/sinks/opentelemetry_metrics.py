"""OpenTelemetry's meters of the guard's events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Meter

from wallie_litellm.events import (
    BreakerChanged,
    BudgetCrossed,
    ErrorRateCrossed,
    Event,
    ExhaustionForeseen,
    FellBack,
    HealthChanged,
    QueueCrossed,
    QuotaCrossed,
    Settled,
)

# The conventions' advice for their two histograms.
DURATION_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)  # s
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))  # tokens

Attributes = dict[str, str | bool | int | float]


class Instruments:
    """The conventions' two histograms, and counters of events without a convention."""

    def __init__(self, meter: Meter) -> None:
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )
        self._cost = meter.create_counter("wallie.cost", "{USD}", "Cost of attempts whose price is known.")
        quota_alerts = meter.create_counter(
            "wallie.quota.alerts", "{alert}", "Crossings of a limit's share, and limits that will run out."
        )
        episodes = meter.create_counter(
            "wallie.alert.episodes", "{alert}", "Shares of failures and queues that were too large, or no longer are."
        )
        self._counts: dict[type, tuple[Counter, Callable[[Any], Attributes]]] = {
            FellBack: (
                meter.create_counter("wallie.fallbacks", "{request}", "Requests that went on along their chain."),
                lambda event: {"wallie.fallback.from": event.from_model, "wallie.fallback.to": event.to_model},
            ),
            BreakerChanged: (
                meter.create_counter("wallie.breaker.changes", "{change}", "Transitions of a provider's breaker."),
                lambda event: {"wallie.provider": event.provider, "wallie.breaker.state": event.after},
            ),
            HealthChanged: (
                meter.create_counter("wallie.health.changes", "{change}", "Changes of a provider's health."),
                lambda event: {"wallie.provider": event.provider, "wallie.health": event.status},
            ),
            QuotaCrossed: (
                quota_alerts,
                lambda event: {
                    "wallie.provider": event.provider,
                    "wallie.quota.dimension": event.dimension,
                    "wallie.alert.level": event.level,
                },
            ),
            ExhaustionForeseen: (
                quota_alerts,
                lambda event: {
                    "wallie.provider": event.provider,
                    "wallie.quota.dimension": event.dimension,
                    "wallie.alert.level": "forecast",
                },
            ),
            ErrorRateCrossed: (
                episodes,
                lambda event: {
                    "wallie.alert.type": "error_rate",
                    "wallie.provider": event.provider,
                    "wallie.model": event.model or "",
                    "wallie.alert.resolved": event.resolved,
                },
            ),
            QueueCrossed: (
                episodes,
                lambda event: {
                    "wallie.alert.type": "queue",
                    "wallie.provider": event.provider,
                    "wallie.alert.resolved": event.resolved,
                },
            ),
            BudgetCrossed: (
                meter.create_counter("wallie.budget.alerts", "{alert}", "Crossings of a budget's shares."),
                lambda event: {"wallie.alert.level": event.level},
            ),
        }

    def count(self, event: Event) -> bool:
        """Count ``event``; returns whether its kind is counted."""
        entry = self._counts.get(type(event))
        if entry is None:
            return False
        counter, attributes = entry
        counter.add(1, attributes(event), Context())
        return True

    def record(self, attempt: Settled, convention: Attributes, context: Context) -> None:
        """Measure a call to a provider; ``context`` has its span, as an exemplar."""
        attributes = convention | {"wallie.provider": attempt.provider}
        self._duration.record(attempt.latency_ms / 1000, attributes, context)
        if attempt.cost_usd:
            self._cost.add(attempt.cost_usd, attributes, context)
        for kind, tokens in (("input", attempt.prompt_tokens), ("output", attempt.completion_tokens)):
            if tokens:
                self._tokens.record(tokens, attributes | {"gen_ai.token.type": kind}, context)
