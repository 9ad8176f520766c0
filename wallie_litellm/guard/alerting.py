"""What alerts of failures and queues look at in a guard."""

from __future__ import annotations

from functools import partial

from wallie_litellm.alerts.watch import AlertWatch
from wallie_litellm.clock import Clock
from wallie_litellm.config.alerts import AlertSettings
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.limiter.status import waiting_requests


def watch_alerts(settings: AlertSettings, clock: Clock, limiters: LimiterRegistry, reporter: Reporter) -> AlertWatch:
    """The watch over the queues of ``limiters``, and over what ``reporter`` reports."""

    def is_down(provider: str) -> bool:
        return limiters.overall(provider).health == "down"

    waiting = partial(waiting_requests, limiters)
    return AlertWatch(settings, clock, waiting, is_down, reporter.once, reporter.publish)
