"""The ``wallie:`` section of router_config.yaml as frozen models. Durations are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from wallie_litellm.config.alerts import AlertSettings
from wallie_litellm.config.budgets import FeatureBudget, GeneralBudget, KeySettings
from wallie_litellm.config.caching import AnswerCache, AnswerCacheSettings, InjectionPoint, PromptCache
from wallie_litellm.config.experiments import ExperimentSettings, conflicts
from wallie_litellm.config.forecast import ForecastSettings
from wallie_litellm.config.hedging import HedgeSettings
from wallie_litellm.config.limits import (
    DEFAULT_PROVIDERS,
    AssumedLimits,
    LimitSettings,
    ProviderLimits,
    in_its_time_zone,
    with_assumed_account,
    with_beginnings,
)
from wallie_litellm.config.routing import Order, RoutingSettings
from wallie_litellm.config.section import Place, Section
from wallie_litellm.config.telemetry import TelemetrySettings
from wallie_litellm.config.tiers import TierName
from wallie_litellm.config.values import (
    Count,
    CountOrZero,
    Duration,
    DurationOrZero,
    Factor,
    FeatureName,
    FirstToken,
    LedgerUrl,
    Money,
    Priority,
    Secret,
    Share,
    ShareAboveZero,
    StoreTimeout,
    StoreUrl,
    TimeZone,
    Title,
    WebUrl,
    conflict,
)
from wallie_litellm.core.circuit_breaker import BreakerRules

# What becomes of a stream that breaks after text: the caller gets an error; it is delivered only when whole, and begun
# anew elsewhere; or it goes on elsewhere from where it broke.
StreamRecovery = Literal["error", "hold", "continue"]


class AdmissionSettings(Section):
    """How long an attempt may wait for capacity. Durations are in seconds."""

    max_wait: DurationOrZero = Field(
        30.0,
        description="Longest wait for capacity, in seconds, when no other member of the chain could serve.",
    )
    patience: DurationOrZero | None = Field(
        None,
        description="Longest wait, in seconds, while another member of the chain could serve now; as `max_wait` "
        "unless set.",
    )
    pause_patience: DurationOrZero = Field(
        3.0,
        description="As `patience`, in seconds, where the provider imposed the wait: a 429, a `Retry-After`.",
    )
    reservation_ttl: Duration = Field(600.0, description="Seconds after which an unsettled reservation expires.")

    @model_validator(mode="after")
    def _patience_fits(self) -> AdmissionSettings:
        if self.patience is not None and self.patience > self.max_wait:
            raise conflict("patience", _too_long(self.patience, "max_wait", self.max_wait))
        return self


class BreakerSettings(Section):
    """When a breaker opens, and for how long. Durations are in seconds."""

    per: Literal["model", "provider"] = Field(
        "model",
        description="With `model`, each model has a breaker beside the provider's, which counts what fails every "
        "model: connections that are refused, keys that are, and empty accounts. With `provider`, the"
        " provider's counts all failures.",
    )
    failures: Count = Field(5, description="Consecutive failures that open it.")
    error_rate: ShareAboveZero | None = Field(
        None,
        description="Share of failures that opens it too, among at least `min_calls` calls of the last `window`; "
        "null is off.",
    )
    slow_call: Duration | None = Field(
        None,
        description="Seconds to a stream's first content, or to an answer, above which a call is slow; null is off.",
    )
    slow_rate: ShareAboveZero = Field(
        0.5,
        description="Share of slow calls that opens it, counted as for `error_rate`.",
    )
    window: Duration = Field(60.0, description="Seconds over which `error_rate` and `slow_rate` are counted.")
    min_calls: Count = Field(20, description="Calls within `window` below which neither rate opens it.")
    open_for: Duration = Field(10.0, description="Seconds to the first probe, doubled by each failed one.")
    max_open_for: Duration = Field(60.0, description="Most seconds between probes.")
    probes: Count = Field(1, description="Calls admitted while it is half-open.")
    ramp: Duration | None = Field(
        None,
        description="Seconds in which a model that has come back is given its traffic in steps; null is at once.",
    )

    @model_validator(mode="after")
    def _open_for_fits(self) -> BreakerSettings:
        if self.open_for > self.max_open_for:
            raise conflict("open_for", _too_long(self.open_for, "max_open_for", self.max_open_for))
        return self

    @property
    def rules(self) -> BreakerRules:
        """What one breaker goes by."""
        own = self.model_dump(exclude={"per", "slow_call", "slow_rate", "ramp"})
        return BreakerRules(**own, slow_rate=None if self.slow_call is None else self.slow_rate)


class RetrySettings(Section):
    """The only authority for retries, on the proxy too.

    The n-th wait is ``initial`` · ``multiplier``ⁿ seconds, at most ``max`` seconds, give or take the share ``jitter``.
    """

    max_retries: CountOrZero = Field(
        3, description="Retries after failures that may pass, such as timeouts and 5xx; 0 is none."
    )
    initial: DurationOrZero = Field(1.0, description="Seconds before the first retry.")
    max: DurationOrZero = Field(16.0, description="Longest wait between two attempts, in seconds.")
    multiplier: Factor = Field(2.0, description="Each wait is so many times as long as the one before.")
    jitter: Share = Field(0.25, description="Share by which each wait is made longer or shorter at random.")

    @model_validator(mode="after")
    def _initial_fits(self) -> RetrySettings:
        if self.initial > self.max:
            raise conflict("initial", _too_long(self.initial, "max", self.max))
        return self


class QuotaSettings(Section):
    """The shares of a limit, 0 to 1, at which an alert is raised, or another provider preferred."""

    warning: ShareAboveZero = Field(
        0.80,
        description="Share of a limit used at which there is a warning; below `critical`.",
    )
    critical: ShareAboveZero = Field(0.95, description="Share of a limit used at which there is a critical alert.")
    switch_at: ShareAboveZero | None = Field(
        None,
        description="Share above which the next member of the chain is preferred, if it can serve; null is off.",
    )

    @model_validator(mode="after")
    def _warning_comes_first(self) -> QuotaSettings:
        if self.warning >= self.critical:
            raise conflict("warning", f"found {self.warning:g}, expected a share below critical ({self.critical:g})")
        return self


class StoreSettings(Place):
    """Where shared state lives, and what holds while it cannot be reached."""

    url: StoreUrl = Field(
        "memory",
        description="Where limits, breakers and alerts are kept: in the memory of the process, or in the Redis of"
        " this URL, where all processes share them.",
    )
    on_store_error: Literal["local", "open", "closed"] = Field(
        "local",
        description="While Redis is away, `local` keeps a local share of the limit, `open` admits, `closed` refuses.",
    )
    timeout: StoreTimeout = Field(
        0.25,
        description="Seconds without an answer of Redis after which `on_store_error` holds.",
    )


class LedgerSettings(Place):
    """Where the durable record is written, and for how long single records are kept."""

    url: LedgerUrl = Field(
        "sqlite:///wallie.db",
        description="The database; a path after three slashes is relative to the working directory, after four it"
        " is absolute.",
    )
    retention: Duration = Field(
        90 * 86400.0,
        description="Seconds for which single records are kept; their sums by day are kept for 400 days.",
    )


class FeatureSettings(Section):
    """What one product feature gets. Durations are in seconds."""

    patience: DurationOrZero | None = Field(
        None,
        description="As `admission.patience`, in seconds, for this feature; as there unless set.",
    )
    max_wait: DurationOrZero | None = Field(
        None,
        description="As `admission.max_wait`, in seconds, for this feature; as there unless set.",
    )
    first_token: FirstToken | None = Field(
        None,
        description="Seconds to an attempt's first content, after which it has failed; `auto` follows what is "
        "measured; as the provider's unless set.",
    )
    order: Order | None = Field(None, description="Order in which its chains are asked; as `routing.order` unless set.")
    stream_recovery: StreamRecovery = Field(
        "error",
        description="What becomes of a stream that breaks after text: the caller gets an error (`error`); it is "
        "delivered only when whole, and begun anew elsewhere (`hold`); it goes on elsewhere from "
        "where it broke (`continue`).",
    )
    hedge: HedgeSettings | None = Field(None, description="When the chain's next member is asked too; null is never.")
    priority: Priority = Field(0, description="Higher is served first.")
    limits: LimitSettings = Field(LimitSettings(), description="Limits of this feature, besides the providers' own.")
    cache: AnswerCache = Field(
        None,
        description="Answers are given again to the same question: how long, or a mapping with the keys below; "
        "null is never.",
    )
    prompt_cache: PromptCache = Field(
        None,
        description="Where prompts are marked for the vendors' caches: `true` marks the system's messages, a list"
        " of at most 4 places those; null is nowhere.",
    )
    tier: TierName | None = Field(None, description="Tier, or `auto`, of its requests that name no model.")
    budget: FeatureBudget | None = Field(None, description="What its requests may cost; null is without limit.")


class FeatureRules(NamedTuple):
    """What holds for the requests of one feature, completed from ``admission``. Durations are seconds.

    ``patience`` is at most ``max_wait``, and ``pause_patience`` at most ``patience``. A ``first_token`` of ``None``
    leaves the bound to the provider.
    """

    patience: float
    max_wait: float
    pause_patience: float
    first_token: float | None
    stream_recovery: StreamRecovery
    cache: AnswerCacheSettings | None = None
    prompt_cache: tuple[InjectionPoint, ...] | None = None


class KpiSettings(Section):
    """Targets of ``wallie-litellm kpis``."""

    uptime: Share = Field(0.995, description="Share of requests that are answered, at least.")
    p95_latency: Duration = Field(3.0, description="95th percentile of latency in seconds, at most.")
    error_rate: Share = Field(0.01, description="Share of requests that fail, at most.")
    monthly_cost: Money = Field(
        500.0,
        description="US dollars a calendar month, at most; alerts come at the shares under `quota`; 0 is none.",
    )
    fallback_rate: Share = Field(0.05, description="Share of requests that a fallback answered, at most.")
    critical_alerts: CountOrZero = Field(0, description="Critical alerts, at most.")


class DashboardSettings(Section):
    """The operator's page."""

    name: Title | None = Field(
        None,
        description="Name of the installation, in the page's heading, in the API's summary and in webhooks.",
    )
    url: WebUrl | None = Field(None, description="Address of the page as operators have it, for the links in webhooks.")
    timezone: TimeZone | None = Field(
        None,
        description="Time zone of the times on the page, and of times without an offset in the API; unless set the "
        "viewer's on the page, and UTC in the API. Days and months stay UTC's.",
    )


class WallieConfig(Section):
    """The whole ``wallie:`` section. A section that is left empty has its defaults; ``ledger: null`` is off."""

    providers: Mapping[str, ProviderLimits] = Field(
        default_factory=lambda: dict(DEFAULT_PROVIDERS),
        description="Limits by provider.",
    )
    admission: AdmissionSettings = Field(AdmissionSettings(), description="Waits for capacity.")
    breaker: BreakerSettings = Field(BreakerSettings(), description="When a breaker opens, and for how long.")
    retry: RetrySettings = Field(
        RetrySettings(),
        description="Retries of one deployment, the only authority for them, on the proxy too.",
    )
    quota: QuotaSettings = Field(QuotaSettings(), description="Shares of a limit at which there are alerts.")
    store: StoreSettings = Field(
        StoreSettings(),
        description="Where limits and breakers are kept, and what holds while that is away.",
    )
    ledger: LedgerSettings | None = Field(LedgerSettings(), description="The durable record; null turns it off.")
    telemetry: TelemetrySettings = Field(TelemetrySettings(), description="Where events go.")
    features: Mapping[FeatureName, FeatureSettings] = Field(
        default_factory=dict,
        description="What single features get, by the name that requests are tagged with.",
    )
    keys: Mapping[FeatureName, KeySettings] = Field(
        default_factory=dict,
        description="What single virtual keys of the proxy's get, by the name that is on record as `proxy_key`.",
    )
    experiments: Mapping[str, ExperimentSettings] = Field(
        default_factory=dict,
        description="Arms that are compared, by name; one experiment for a feature.",
    )
    routing: RoutingSettings = Field(RoutingSettings(), description="What decides where requests go first.")
    budget: GeneralBudget = Field(
        GeneralBudget(),
        description="What all requests together may cost, those without a feature included.",
    )
    kpis: KpiSettings = Field(KpiSettings(), description="Targets of `wallie-litellm kpis`.")
    forecast: ForecastSettings = Field(
        ForecastSettings(),
        description="Alerts of limits that will run out before they reset.",
    )
    dashboard: DashboardSettings = Field(DashboardSettings(), description="The operator's page.")
    alerts: AlertSettings = Field(AlertSettings(), description="Alerts of failures and of queues.")
    rate_limit_headers: Literal["vendor", "own"] = Field(
        "vendor",
        description="Whose limits an answer's `x-ratelimit-*` tell: the vendor's, as LiteLLM sends them "
        "(`vendor`), or the installation's (`own`).",
    )
    reload: Literal["on_request", "watch"] = Field(
        "on_request",
        description="When a changed file is taken up: on a signal, a command or an action of the page "
        "(`on_request`), or as soon as it is seen to have changed, too (`watch`).",
    )
    admin_token: Secret | None = Field(
        None,
        description="Token with which an operator uses the dashboard and its API; best as `WALLIE_ADMIN_TOKEN`.",
    )

    def for_feature(self, feature: str | None = None) -> FeatureRules:
        """What holds for the requests of ``feature``; of none, or of one that the file does not name, the general."""
        own = self.features.get(feature or "", FeatureSettings())
        longest = self.admission.max_wait if own.max_wait is None else own.max_wait
        wanted = self.admission.patience if own.patience is None else own.patience
        patience = longest if wanted is None else min(wanted, longest)
        pause_patience = min(self.admission.pause_patience, patience)
        return FeatureRules(
            patience,
            longest,
            pause_patience,
            own.first_token,
            own.stream_recovery,
            cache=own.cache,
            prompt_cache=own.prompt_cache,
        )

    def states_limits_of(self, provider: str) -> bool:
        """Whether the file names ``provider``, rather than the defaults alone."""
        return provider in self.providers and self.providers[provider] is not DEFAULT_PROVIDERS.get(provider)

    def limits_elsewhere(self, provider: str) -> ProviderLimits | None:
        """The limits that the file states for a provider at another address than its vendor's; ``None`` for none."""
        limits = self.providers.get(provider) if self.states_limits_of(provider) else None
        return limits.stated() if isinstance(limits, AssumedLimits) else limits

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_defaults(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        empty = {key for key in cls.model_fields if key != "ledger" and data.get(key, ...) is None}
        return {key: value for key, value in data.items() if key not in empty}

    @field_validator("providers", mode="before")
    @classmethod
    def _known_providers_have_limits(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        stated = {name: with_beginnings(name, in_its_time_zone(name, limits)) for name, limits in given.items()}
        return {**DEFAULT_PROVIDERS, **stated}

    @field_validator("providers", mode="after")
    @classmethod
    def _known_accounts_have_limits(cls, limits: Mapping[str, ProviderLimits]) -> Mapping[str, ProviderLimits]:
        return {name: with_assumed_account(name, own) for name, own in limits.items()}

    @model_validator(mode="after")
    def _feature_waits_fit(self) -> WallieConfig:
        for name, own in self.features.items():
            longest = self.for_feature(name).max_wait
            if own.patience is not None and own.patience > longest:
                where = "max_wait" if own.max_wait is not None else "admission.max_wait"
                raise conflict(f"features.{name}.patience", _too_long(own.patience, where, longest))
        return self

    @model_validator(mode="after")
    def _experiments_fit(self) -> WallieConfig:
        for key, text in conflicts(self.experiments, self.features, has_ledger=self.ledger is not None):
            raise conflict(key, text)
        return self


def _too_long(value: float, other: str, limit: float) -> str:
    return f"found {value:g} s, expected at most {other} ({limit:g} s)"
