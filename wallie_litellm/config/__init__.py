"""router_config.yaml: read, checked, completed by defaults. Nothing here imports LiteLLM.

``load``              from a file and the environment to a ``RouterConfig``, or to one error with every problem
``models``            the ``wallie:`` section
``limits``            its limits, and those of known providers
``budgets``           what features, users and keys may spend
``hedging``           a feature's ``hedge`` in it
``telemetry``         its sinks
``webhooks``          those that alerts are posted to
``routing``           what decides where requests go first
``tiers``             names for chains, and which of them ``auto`` chooses
``caching``           a feature's caches
``experiments``       arms that are compared with each other
``forecast``          alerts of limits that will run out
``alerts``            alerts of failures and of queues
``section``           what its sections are built on
``litellm_sections``  the sections that are LiteLLM's
``used_providers``    the providers and accounts that the models in them name
``chains``            the fallback chains in them
``changes``           what differs between two configurations, and which of it only a restart takes up
``differences``       LiteLLM's settings that act otherwise here, and what to write instead
``includes``          the files that ``include`` names
``variables``         environment variables: those that the file sets, and those that override it
``values``            the kinds of value: durations, counts, shares, addresses, secrets
``problems``          the messages: where, what was found, what is expected
``value_schemas``     the kinds of value in JSON Schema
``json_schema``       the whole file in JSON Schema, for editors
``yaml_file``         reading YAML, with line and column of every mistake
"""

from wallie_litellm.config.caching import AnswerCacheSettings, InjectionPoint
from wallie_litellm.config.experiments import ExperimentSettings
from wallie_litellm.config.limits import DEFAULT_PROVIDERS, LimitSettings, ProviderLimits
from wallie_litellm.config.load import DEFAULT_FILE, RouterConfig, load_config, parse_config
from wallie_litellm.config.models import (
    AdmissionSettings,
    BreakerSettings,
    FeatureRules,
    FeatureSettings,
    KpiSettings,
    LedgerSettings,
    QuotaSettings,
    RetrySettings,
    StoreSettings,
    StreamRecovery,
    WallieConfig,
)
from wallie_litellm.config.telemetry import (
    PostHogSettings,
    PrometheusSettings,
    SentrySettings,
    SlackSettings,
    TelemetrySettings,
)
from wallie_litellm.config.values import parse_duration
from wallie_litellm.core.dimensions import DIMENSIONS, Dimension, RateDimension

__all__ = [
    "DEFAULT_FILE",
    "DEFAULT_PROVIDERS",
    "DIMENSIONS",
    "AdmissionSettings",
    "AnswerCacheSettings",
    "BreakerSettings",
    "Dimension",
    "ExperimentSettings",
    "FeatureRules",
    "FeatureSettings",
    "InjectionPoint",
    "KpiSettings",
    "LedgerSettings",
    "LimitSettings",
    "PostHogSettings",
    "PrometheusSettings",
    "ProviderLimits",
    "QuotaSettings",
    "RateDimension",
    "RetrySettings",
    "RouterConfig",
    "SentrySettings",
    "SlackSettings",
    "StoreSettings",
    "StreamRecovery",
    "TelemetrySettings",
    "WallieConfig",
    "load_config",
    "parse_config",
    "parse_duration",
]
