"""The ``telemetry.webhooks`` section: where alerts are posted."""

from __future__ import annotations

from typing import Literal

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import AlertPatterns, SecretUrl, WebhookSecret

WebhookFormat = Literal["json", "slack", "teams"]


class WebhookSettings(Section):
    """An address to which alerts are posted.

    ``secret``: what requests are signed with. ``format``: ``json`` is the documented document, ``slack`` a text and
    ``teams`` an Adaptive Card. ``events``: patterns of the types that are sent.
    """

    url: SecretUrl
    secret: WebhookSecret | None = None
    format: WebhookFormat = "json"
    events: AlertPatterns = ("*",)
