"""The ``alerts:`` section: a share of failures, and a queue, that are announced."""

from __future__ import annotations

from pydantic import Field

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Count, Duration, ShareAboveZero


class AlertSettings(Section):
    """What is announced besides limits, budgets and providers that are down. Durations are in seconds."""

    error_rate: ShareAboveZero | None = Field(
        0.2,
        description="Share of the requests for a group, or of the attempts at a provider, that fail within "
        "`window`; null is off.",
    )
    window: Duration = Field(300.0, description="Seconds over which failures are counted.")
    min_requests: Count = Field(20, description="Requests, or attempts, within `window` below which there is no alert.")
    queue: Count | None = Field(
        None,
        description="Requests of one process that wait for one provider, or for the limits of one feature, all "
        "through `queue_for`; null is off.",
    )
    queue_for: Duration = Field(60.0, description="Seconds for which a queue must have at least that length.")
