"""The ``telemetry.webhooks`` section: where alerts are posted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import AlertPatterns, SecretUrl, WebhookSecret

WebhookFormat = Literal["json", "slack", "teams"]


class WebhookSettings(Section):
    """An address to which alerts are posted."""

    url: SecretUrl = Field(description="Address that alerts are posted to.")
    secret: WebhookSecret | None = Field(
        None,
        description="What requests are signed with, as Standard Webhooks writes it; null sends them unsigned.",
    )
    format: WebhookFormat = Field(
        "json",
        description="`json` is the documented document, `slack` a text and `teams` an Adaptive Card.",
    )
    events: AlertPatterns = Field(("*",), description="Types of alerts that are sent, or patterns of them.")
