"""The ``telemetry`` section: where events go."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Folder, Host, Port, Secret, SecretUrl, SinkPaths, Switch, WebUrl
from wallie_litellm.config.webhooks import WebhookSettings


class PostHogSettings(Section):
    """PostHog's project key and host."""

    api_key: Secret | None = None
    host: WebUrl = "https://us.i.posthog.com"


class SlackSettings(Section):
    """Slack's incoming webhook."""

    webhook_url: SecretUrl | None = None


class SentrySettings(Section):
    """Sentry's DSN."""

    dsn: SecretUrl | None = None


class PrometheusSettings(Section):
    """Naming Prometheus turns its metrics on; ``port`` also serves them, on ``host``."""

    port: Port | None = None
    host: Host = "127.0.0.1"


class OpenTelemetrySettings(Section):
    """Naming OpenTelemetry turns it on, with the providers that the application has set up.

    ``user_ids`` puts the user's id on spans.
    """

    user_ids: Switch = False


class TelemetrySettings(Section):
    """Where events go; a section that is ``None`` is off.

    ``sinks``: the application's own sinks, as ``module:Class``. ``spool``: the folder in which records wait on disk
    while the ledger's database or PostHog is away. ``webhooks``: addresses to which alerts are posted, by name.
    """

    posthog: PostHogSettings | None = None
    slack: SlackSettings | None = None
    sentry: SentrySettings | None = None
    prometheus: PrometheusSettings | None = None
    opentelemetry: OpenTelemetrySettings | None = None
    webhooks: Mapping[str, WebhookSettings] = Field(default_factory=dict)
    sinks: SinkPaths = ()
    spool: Folder = "wallie-spool"
