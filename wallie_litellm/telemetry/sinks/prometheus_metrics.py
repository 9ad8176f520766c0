"""The counters and histograms of one Prometheus registry."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram

from wallie_litellm.telemetry.sinks.prometheus_gauges import Gauges, StatusSource

# OpenTelemetry's advice for calls to models, without its shortest bucket and with a longer one.
SECONDS: Final = (0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84)


class AttemptSeries(NamedTuple):
    """The series of attempts with the same labels."""

    attempts: Counter
    duration: Histogram
    prompt: Counter
    completion: Counter
    cached: Counter
    cache_write: Counter
    reasoning: Counter
    cost: Counter


class RequestSeries(NamedTuple):
    """The series of requests with the same labels."""

    requests: Counter
    duration: Histogram
    waited: Histogram


class Metrics:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        seconds = partial(Histogram, registry=registry, buckets=SECONDS)
        owner = ("provider", "model")
        self._attempts = counter(
            "wallie_attempts", "Calls to deployments, by how they ended.", (*owner, "outcome", "feature")
        )
        self._requests = counter(
            "wallie_requests",
            "Requests by how they ended: success, failed, or by_caller (cancelled, broken off, or asked for what no"
            " provider accepts). The provider is the one that served, else the last that was tried or refused; empty"
            " where the answer came from the cache.",
            (*owner, "outcome", "feature"),
        )
        self._attempt_duration = seconds(
            "wallie_attempt_duration_seconds", "From an attempt's admission to its end.", (*owner, "outcome")
        )
        self.first_token = seconds(
            "wallie_first_token_seconds", "From a stream's admission to its first content.", owner
        )
        self._request_duration = seconds(
            "wallie_request_duration_seconds",
            "Whole requests: waiting, retries and fallbacks included.",
            ("model", "outcome"),
        )
        self._request_wait = seconds(
            "wallie_request_wait_seconds", "How long requests waited for capacity in all.", owner
        )
        self._tokens = counter(
            "wallie_tokens",
            "Tokens by type: prompt, completion, cached and cache_write (parts of prompt), reasoning (part of"
            " completion).",
            (*owner, "feature", "type"),
        )
        self._cost = counter(
            "wallie_cost_usd", "Cost of attempts whose price is known, in US dollars.", (*owner, "feature")
        )
        self.unpriced = counter("wallie_unpriced_attempts", "Billed attempts without a known price.", owner)
        self.cache_hits = counter(
            "wallie_cache_hits", "Requests answered from the cache of answers.", ("model", "feature")
        )
        self.cache_saved = counter(
            "wallie_cache_saved_usd",
            "What the answers given from the cache had cost, where that is known, in US dollars.",
            ("model", "feature"),
        )
        self.hedges = counter(
            "wallie_hedges", "Hedges sent, by whether they were answered first.", ("model", "feature", "won")
        )
        self.hedges_wasted = counter(
            "wallie_hedge_wasted_usd",
            "Cost of the attempts that hedges made superfluous, or that they were, in US dollars.",
            ("model", "feature"),
        )
        self.experiment_requests = counter(
            "wallie_experiment_requests",
            "Requests in an experiment by the arm they were given, whichever member of the chain answered.",
            ("experiment", "arm", "outcome"),
        )
        self.arms_stopped = counter(
            "wallie_experiment_arms_stopped", "Arms that their guardrail has stopped.", ("experiment", "arm")
        )
        self.fallbacks = counter(
            "wallie_fallbacks", "Requests that went on to the next member of their chain.", ("from", "to")
        )
        self.breaker_changes = counter(
            "wallie_breaker_changes",
            "Transitions of a breaker, by the state it went to; the model is that of its own breaker, or empty.",
            ("provider", "model", "state"),
        )
        self.quota_alerts = counter(
            "wallie_quota_alerts",
            "Crossings of a limit's warning or critical share, and with the level forecast limits that will run out"
            " before they reset; the model is that of its own limits, or empty.",
            ("provider", "model", "dimension", "level"),
        )
        self.budget_alerts = counter(
            "wallie_budget_alerts", "Crossings of a budget's warning or critical share, or of all of it.", ("level",)
        )
        self.sources: list[StatusSource] = []
        registry.register(Gauges(self.sources))

    def attempt_series(self, provider: str, model: str, outcome: str, feature: str) -> AttemptSeries:
        """The series of attempts with these labels."""
        tokens = partial(self._tokens.labels, provider, model, feature)
        return AttemptSeries(
            self._attempts.labels(provider, model, outcome, feature),
            self._attempt_duration.labels(provider, model, outcome),
            tokens("prompt"),
            tokens("completion"),
            tokens("cached"),
            tokens("cache_write"),
            tokens("reasoning"),
            self._cost.labels(provider, model, feature),
        )

    def request_series(self, provider: str, model: str, outcome: str, feature: str) -> RequestSeries:
        """The series of requests with these labels."""
        return RequestSeries(
            self._requests.labels(provider, model, outcome, feature),
            self._request_duration.labels(model, outcome),
            self._request_wait.labels(provider, model),
        )


_by_registry: WeakKeyDictionary[CollectorRegistry, Metrics] = WeakKeyDictionary()
_registering = threading.Lock()


def metrics_in(registry: CollectorRegistry) -> Metrics:
    """The metrics of ``registry``, created by the first call: a registry accepts each name once."""
    with _registering:
        metrics = _by_registry.get(registry)
        if metrics is None:
            metrics = _by_registry[registry] = Metrics(registry)
        return metrics
