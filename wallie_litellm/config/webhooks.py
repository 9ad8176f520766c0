"""The ``telemetry.webhooks`` section: where alerts are posted."""

from __future__ import annotations

from typing import Literal

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import AlertPatterns, Label, SecretUrl, WebhookSecret, WebUrl

WebhookFormat = Literal["json", "slack", "teams"]


class WebhookSettings(Section):
    """An address to which alerts are posted.

    ``secret``: what requests are signed with. ``format``: ``json`` is the documented document, ``slack`` a text and
    ``teams`` an Adaptive Card. ``events``: patterns of the types that are sent. ``installation``: its name in what is
    sent; the machine's unless set. ``page``: the dashboard's address, for links.
    """

    url: SecretUrl
    secret: WebhookSecret | None = None
    format: WebhookFormat = "json"
    events: AlertPatterns = ("*",)
    installation: Label | None = None
    page: WebUrl | None = None
