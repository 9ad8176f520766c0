"""The ``alerts:`` section: a share of failures, and a queue, that are announced."""

from __future__ import annotations

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Count, Duration, ShareAboveZero


class AlertSettings(Section):
    """What is announced besides limits, budgets and providers that are down. Durations are seconds; ``None`` is off.

    ``error_rate``: the share of the requests for a group, or of the attempts at a provider, that fail within
    ``window``, of at least ``min_requests``. ``queue``: the number of requests of this process that wait for one
    provider, or for the limits of one feature, all through ``queue_for``.
    """

    error_rate: ShareAboveZero | None = 0.2
    window: Duration = 300.0
    min_requests: Count = 20
    queue: Count | None = None
    queue_for: Duration = 60.0
