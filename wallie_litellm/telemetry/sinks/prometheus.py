"""Metrics for Prometheus: counters and histograms from events, gauges from the guard's status at scrape time.

Every label is bounded: providers, model groups and features beyond the first hundred of each are counted as ``other``,
and no label holds a user. Durations are in seconds, money in US dollars.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.core.provider_names import is_account
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import (
    ArmStopped,
    BreakerChanged,
    BudgetCrossed,
    Ended,
    Event,
    ExhaustionForeseen,
    FellBack,
    HealthChanged,
    QuotaCrossed,
    Settled,
)

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.exposition import choose_encoder

    from wallie_litellm.telemetry.sinks.prometheus_gauges import SinkStats, Status, StatusSource
    from wallie_litellm.telemetry.sinks.prometheus_metrics import AttemptSeries, RequestSeries, metrics_in
except ImportError as missing:
    raise ConfigError(
        ["wallie.telemetry.prometheus: needs the package prometheus-client: pip install 'wallie-litellm[prometheus]'"]
    ) from missing

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

OTHER: Final = "other"  # the label of values beyond the limit
MOST_LABEL_VALUES: Final = 100  # of one label, beside those of the configuration


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
        self._metrics = metrics_in(self.registry)
        self._source = StatusSource(status, sink_stats)
        self._metrics.sources.append(self._source)
        self._feature = _Bounded(features, most)
        self._model = _Bounded(models, most)
        self._provider = _Bounded((), most)
        self._attempts: dict[tuple[str, ...], AttemptSeries] = {}
        self._requests: dict[tuple[str, ...], RequestSeries] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            Settled: self._settled,
            Ended: self._ended,
            FellBack: self._fell_back,
            BreakerChanged: self._breaker_changed,
            HealthChanged: self._health_changed,
            QuotaCrossed: self._quota_crossed,
            ExhaustionForeseen: self._exhaustion_foreseen,
            ArmStopped: self._arm_stopped,
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
        if event.cache_write_tokens:
            series.cache_write.inc(event.cache_write_tokens)
        if event.first_token_ms is not None:
            self._metrics.first_token.labels(labels[0], labels[1]).observe(event.first_token_ms / 1000)
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
        if event.hedged:
            won = event.success and event.settled[-1].hedge
            self._metrics.hedges.labels(labels[1], labels[3], str(won).lower()).inc()
            self._metrics.hedges_wasted.labels(labels[1], labels[3]).inc(event.wasted_usd)
        if event.experiment is not None and event.arm is not None:
            self._metrics.experiment_requests.labels(event.experiment, event.arm, outcome).inc()
        if event.cache_hit:
            self._metrics.cache_hits.labels(labels[1], labels[3]).inc()
            if event.saved_usd:
                self._metrics.cache_saved.labels(labels[1], labels[3]).inc(event.saved_usd)

    def _fell_back(self, event: FellBack) -> None:
        self._metrics.fallbacks.labels(self._model(event.from_model), self._model(event.to_model)).inc()

    def _breaker_changed(self, event: BreakerChanged) -> None:
        provider = self._provider(event.provider)
        self._metrics.breaker_changes.labels(provider, self._model(event.model), event.after).inc()
        if not is_account(event.provider) and event.model is None:
            self._source.breaker[provider] = event.after

    def _health_changed(self, event: HealthChanged) -> None:
        if not is_account(event.provider) and event.model is None:
            self._source.health[self._provider(event.provider)] = event.status

    def _arm_stopped(self, event: ArmStopped) -> None:
        self._metrics.arms_stopped.labels(event.experiment, event.arm).inc()

    def _quota_crossed(self, event: QuotaCrossed) -> None:
        owner = self._provider(event.provider), self._model(event.model)
        self._metrics.quota_alerts.labels(*owner, event.dimension, event.level).inc()

    def _exhaustion_foreseen(self, event: ExhaustionForeseen) -> None:
        owner = self._provider(event.provider), self._model(event.model)
        self._metrics.quota_alerts.labels(*owner, event.dimension, "forecast").inc()

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
