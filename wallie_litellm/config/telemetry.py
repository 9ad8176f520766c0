"""The ``telemetry`` section: where events go."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Folder, Host, Port, Secret, SecretUrl, SinkPaths, Switch, WebUrlOrReference
from wallie_litellm.config.webhooks import WebhookSettings


class PostHogSettings(Section):
    """PostHog's project key and host."""

    api_key: Secret | None = Field(
        None,
        description="Project key; without one, here or as `POSTHOG_API_KEY`, nothing is sent.",
    )
    host: WebUrlOrReference = Field("https://us.i.posthog.com", description="Address of PostHog.")


class SlackSettings(Section):
    """Slack's incoming webhook."""

    webhook_url: SecretUrl | None = Field(None, description="Address of an incoming webhook; or `SLACK_WEBHOOK_URL`.")


class SentrySettings(Section):
    """Sentry's DSN."""

    dsn: SecretUrl | None = Field(None, description="DSN of the project; or `SENTRY_DSN`.")


class PrometheusSettings(Section):
    """Naming Prometheus turns its metrics on."""

    port: Port | None = Field(None, description="Port that serves the metrics; without one the application does.")
    host: Host = Field("127.0.0.1", description="Address that the port is opened on.")


class OpenTelemetrySettings(Section):
    """Naming OpenTelemetry turns it on, with the providers that the application has set up."""

    user_ids: Switch = Field(False, description="Whether spans have the user's id.")


class TelemetrySettings(Section):
    """Where events go; a section that is ``None`` is off."""

    posthog: PostHogSettings | None = Field(None, description="Events as PostHog's; null is off.")
    slack: SlackSettings | None = Field(None, description="Alerts in Slack; null is off.")
    sentry: SentrySettings | None = Field(None, description="Failures in Sentry; null is off.")
    prometheus: PrometheusSettings | None = Field(None, description="Metrics; null is off.")
    opentelemetry: OpenTelemetrySettings | None = Field(
        None,
        description="Spans and metrics of OpenTelemetry; null is off.",
    )
    webhooks: Mapping[str, WebhookSettings] = Field(
        default_factory=dict,
        description="Addresses to which alerts are posted, by name.",
    )
    sinks: SinkPaths = Field((), description="The application's own sinks, as `module:Class`.")
    spool: Folder = Field(
        "wallie-spool",
        description="Folder in which records wait on disk while the ledger's database, PostHog or a webhook is away; "
        "relative to the working directory.",
    )
