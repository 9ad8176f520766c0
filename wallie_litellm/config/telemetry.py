"""The ``telemetry`` section: where events go."""

from __future__ import annotations

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Folder, Host, Port, Secret, SecretUrl, SinkPaths, Switch, WebUrl


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
    while the ledger's database or PostHog is away.
    """

    posthog: PostHogSettings | None = None
    slack: SlackSettings | None = None
    sentry: SentrySettings | None = None
    prometheus: PrometheusSettings | None = None
    opentelemetry: OpenTelemetrySettings | None = None
    sinks: SinkPaths = ()
    spool: Folder = "wallie-spool"
