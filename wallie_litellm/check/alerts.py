"""The check of ``alerts:``: whether what is asked for can come about."""

from __future__ import annotations

from collections.abc import Iterator

from wallie_litellm.config import RouterConfig


def alert_notes(config: RouterConfig) -> Iterator[str]:
    """An alert of queues where no request ever waits."""
    wallie = config.wallie
    waits = [wallie.for_feature(name).max_wait for name in (None, *wallie.features)]
    if wallie.alerts.queue is not None and not any(waits):
        yield "wallie.alerts.queue: no request ever waits (max_wait is 0), so that there is no queue"
