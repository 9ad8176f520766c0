"""The metrics at ``/wallie/metrics``."""

from __future__ import annotations

from wallie_litellm.dashboard.app import Metrics
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard import Guard


def metrics_of(guard: Guard) -> Metrics | None:
    """The counters of the guard's own Prometheus sink, or without one the gauges; ``None`` without the package."""
    try:
        from wallie_litellm.telemetry.sinks.prometheus import PrometheusSink
    except ConfigError:
        return None
    own: list[PrometheusSink] = []

    def render(accept: str | None) -> tuple[bytes, str]:
        # Looked up at each scrape: a forked process has sinks of its own.
        for sink in guard.bus.sinks():
            if isinstance(sink, PrometheusSink):
                return sink.render(accept)
        if not own:
            own.append(PrometheusSink(status=guard.status, sink_stats=guard.bus.stats))
        return own[0].render(accept)

    return render
