"""Metrics for Prometheus: counters and histograms from events, gauges from the guard's status at scrape time.

Every label is bounded: providers, model groups and features beyond the first hundred of each are counted as ``other``,
and no label holds a user. Durations are in seconds, money in US dollars.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from wallie_litellm.errors import ConfigError
from wallie_litellm.events import (
    BreakerChanged,
    BudgetCrossed,
    Ended,
    Event,
    FellBack,
    HealthChanged,
    QuotaCrossed,
    Settled,
)

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
    from prometheus_client.exposition import choose_encoder

    from wallie_litellm.telemetry.sinks.prometheus_gauges import Gauges, SinkStats, Status, StatusSource
except ImportError as missing:
    raise ConfigError(
        ["wallie.telemetry.prometheus: needs the package prometheus-client: pip install 'wallie-litellm[prometheus]'"]
    ) from missing

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

OTHER: Final = "other"  # the label of values beyond the limit
MOST_LABEL_VALUES: Final = 100  # of one label, beside those of the configuration

# OpenTelemetry's advice for calls to models, without its shortest bucket and with a longer one.
SECONDS: Final = (0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84)


class PrometheusSink:
    """Counts events; :meth:`render` writes the metrics, :meth:`serve` starts an exporter.

    ``registry`` defaults to one of the sink's own, so that several routers, and the application's metrics, do not
    clash. Sinks with the same registry add to the same counters, which live as long as the registry does. ``status``
    is the guard's, ``sink_stats`` the bus's counters by sink; both are called at each scrape. ``features`` and
    ``models`` are those of the configuration, which always have series of their own; so have the first ``most`` other
    values of each label.
    """

    name = "prometheus"

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        status: Status | None = None,
        sink_stats: SinkStats | None = None,
        features: Iterable[str] = (),
        models: Iterable[str] = (),
        most: int = MOST_LABEL_VALUES,
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._metrics = _metrics_in(self.registry)
        self._source = StatusSource(status, sink_stats)
        self._metrics.sources.append(self._source)
        self._feature = _Bounded(features, most)
        self._model = _Bounded(models, most)
        self._provider = _Bounded((), most)
        self._attempts: dict[tuple[str, ...], _AttemptSeries] = {}
        self._requests: dict[tuple[str, ...], _RequestSeries] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            Settled: self._settled,
            Ended: self._ended,
            FellBack: self._fell_back,
            BreakerChanged: self._breaker_changed,
            HealthChanged: self._health_changed,
            QuotaCrossed: self._quota_crossed,
            BudgetCrossed: self._budget_crossed,
        }
        self._handled = 0
        self._serving: tuple[WSGIServer, threading.Thread] | None = None

    def handle(self, events: Sequence[Event]) -> None:
        """Count a batch."""
        handlers = self._handlers
        for event in events:
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event)
                self._handled += 1

    def flush(self, timeout: float) -> bool:
        """Return ``True``: the sink buffers nothing."""
        return True

    def close(self, timeout: float) -> None:
        """Stop the exporter and the calls of ``status``. The counts can still be rendered."""
        serving, self._serving = self._serving, None
        if serving is not None:
            server, thread = serving
            server.shutdown()
            server.server_close()
            thread.join(timeout)
        if self._source in self._metrics.sources:
            self._metrics.sources.remove(self._source)

    def stats(self) -> dict[str, int]:
        """``delivered``: how many events were counted."""
        return {"delivered": self._handled}

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """The metrics and their content type: Prometheus's text, or OpenMetrics if ``accept`` asks for it."""
        encode, content_type = choose_encoder(accept or "")
        return encode(self.registry), content_type

    def serve(self, port: int, host: str = "127.0.0.1") -> int:
        """Serve the metrics over HTTP until :meth:`close`; returns the port, a free one if 0 was asked for.

        A second call returns the port that is already being served.

        Raises:
            ConfigError: the port cannot be used.
        """
        if self._serving is None:
            try:
                self._serving = start_http_server(port, addr=host, registry=self.registry)
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ConfigError(
                    [f"Prometheus metrics cannot be served on {host}:{port}: {reason}. Give each process its own port."]
                ) from error
        return int(self._serving[0].server_port)

    # One kind of event each

    def _settled(self, event: Settled) -> None:
        labels = self._provider(event.provider), self._model(event.model), event.outcome, self._feature(event.feature)
        series = self._attempts.get(labels)
        if series is None:
            series = self._attempts[labels] = self._metrics.attempt_series(*labels)
        series.attempts.inc()
        series.duration.observe(event.latency_ms / 1000)
        series.prompt.inc(event.prompt_tokens)
        series.completion.inc(event.completion_tokens)
        if event.cached_tokens:
            series.cached.inc(event.cached_tokens)
        if event.reasoning_tokens:
            series.reasoning.inc(event.reasoning_tokens)
        if event.cost_usd:
            series.cost.inc(event.cost_usd)
        if event.unpriced:
            self._metrics.unpriced.labels(labels[0], labels[1]).inc()

    def _ended(self, event: Ended) -> None:
        outcome = "success" if event.success else "by_caller" if event.by_caller else "failed"
        labels = self._provider(event.provider), self._model(event.model), outcome, self._feature(event.feature)
        series = self._requests.get(labels)
        if series is None:
            series = self._requests[labels] = self._metrics.request_series(*labels)
        series.requests.inc()
        series.duration.observe(event.latency_ms / 1000)
        series.waited.observe(event.waited_ms / 1000)

    def _fell_back(self, event: FellBack) -> None:
        self._metrics.fallbacks.labels(self._model(event.from_model), self._model(event.to_model)).inc()

    def _breaker_changed(self, event: BreakerChanged) -> None:
        provider = self._provider(event.provider)
        self._metrics.breaker_changes.labels(provider, event.after).inc()
        self._source.breaker[provider] = event.after

    def _health_changed(self, event: HealthChanged) -> None:
        self._source.health[self._provider(event.provider)] = event.status

    def _quota_crossed(self, event: QuotaCrossed) -> None:
        self._metrics.quota_alerts.labels(self._provider(event.provider), event.dimension, event.level).inc()

    def _budget_crossed(self, event: BudgetCrossed) -> None:
        self._metrics.budget_alerts.labels(event.level).inc()


class _Bounded:
    """A label's values: those of the configuration, the first ``most`` others, then :data:`OTHER`."""

    def __init__(self, known: Iterable[str], most: int) -> None:
        self._own = {"", *known}
        self._room = most

    def __call__(self, value: str | None) -> str:
        value = value or ""
        if value in self._own:
            return value
        if self._room <= 0:
            return OTHER
        self._room -= 1
        self._own.add(value)
        return value


class _AttemptSeries(NamedTuple):
    attempts: Counter
    duration: Histogram
    prompt: Counter
    completion: Counter
    cached: Counter
    reasoning: Counter
    cost: Counter


class _RequestSeries(NamedTuple):
    requests: Counter
    duration: Histogram
    waited: Histogram


class _Metrics:
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
            " provider accepts). The provider is the one that served, else the last that was tried or refused.",
            (*owner, "outcome", "feature"),
        )
        self._attempt_duration = seconds(
            "wallie_attempt_duration_seconds", "From an attempt's admission to its end.", (*owner, "outcome")
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
            "Tokens by type: prompt, completion, cached (part of prompt), reasoning (part of completion).",
            (*owner, "feature", "type"),
        )
        self._cost = counter(
            "wallie_cost_usd", "Cost of attempts whose price is known, in US dollars.", (*owner, "feature")
        )
        self.unpriced = counter("wallie_unpriced_attempts", "Billed attempts without a known price.", owner)
        self.fallbacks = counter(
            "wallie_fallbacks", "Requests that went on to the next member of their chain.", ("from", "to")
        )
        self.breaker_changes = counter(
            "wallie_breaker_changes",
            "Transitions of a provider's breaker, by the state it went to.",
            ("provider", "state"),
        )
        self.quota_alerts = counter(
            "wallie_quota_alerts",
            "Crossings of a limit's warning or critical share.",
            ("provider", "dimension", "level"),
        )
        self.budget_alerts = counter(
            "wallie_budget_alerts", "Crossings of the monthly budget's warning or critical share.", ("level",)
        )
        self.sources: list[StatusSource] = []
        registry.register(Gauges(self.sources))

    def attempt_series(self, provider: str, model: str, outcome: str, feature: str) -> _AttemptSeries:
        tokens = partial(self._tokens.labels, provider, model, feature)
        return _AttemptSeries(
            self._attempts.labels(provider, model, outcome, feature),
            self._attempt_duration.labels(provider, model, outcome),
            tokens("prompt"),
            tokens("completion"),
            tokens("cached"),
            tokens("reasoning"),
            self._cost.labels(provider, model, feature),
        )

    def request_series(self, provider: str, model: str, outcome: str, feature: str) -> _RequestSeries:
        return _RequestSeries(
            self._requests.labels(provider, model, outcome, feature),
            self._request_duration.labels(model, outcome),
            self._request_wait.labels(provider, model),
        )


_by_registry: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
_registering = threading.Lock()


def _metrics_in(registry: CollectorRegistry) -> _Metrics:
    """The metrics of ``registry``, created by the first call: a registry accepts each name once."""
    with _registering:
        metrics = _by_registry.get(registry)
        if metrics is None:
            metrics = _by_registry[registry] = _Metrics(registry)
        return metrics
