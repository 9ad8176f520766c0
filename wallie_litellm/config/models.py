"""The ``wallie:`` section of router_config.yaml as frozen models. Durations are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from wallie_litellm.config.alerts import AlertSettings
from wallie_litellm.config.budgets import FeatureBudget, GeneralBudget
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
    Title,
    WebUrl,
    conflict,
)
from wallie_litellm.core.circuit_breaker import BreakerRules

# What becomes of a stream that breaks after text: the caller gets an error; it is delivered only when whole, and begun
# anew elsewhere; or it goes on elsewhere from where it broke.
StreamRecovery = Literal["error", "hold", "continue"]


class AdmissionSettings(Section):
    """How long an attempt may wait for capacity, in seconds.

    ``patience``: while another member of the chain could serve now; as ``max_wait`` unless set. ``max_wait``: when none
    can. ``pause_patience``: as ``patience``, where the wait is for the end of a pause that the provider imposed.
    ``reservation_ttl``: seconds after which an unsettled reservation expires.
    """

    max_wait: DurationOrZero = 30.0
    patience: DurationOrZero | None = None
    pause_patience: DurationOrZero = 3.0
    reservation_ttl: Duration = 600.0

    @model_validator(mode="after")
    def _patience_fits(self) -> AdmissionSettings:
        if self.patience is not None and self.patience > self.max_wait:
            raise conflict("patience", _too_long(self.patience, "max_wait", self.max_wait))
        return self


class BreakerSettings(Section):
    """When a breaker opens, and for how long.

    ``per``: ``model`` has one for each model, beside the provider's, which counts what fails every model: connections
    that are refused, keys that are, and empty accounts; with ``provider`` the provider's counts all failures.
    ``failures``: consecutive failures that open it. ``error_rate``: share of failures that opens it too, among at least
    ``min_calls`` calls of the last ``window`` seconds; ``None`` is off. ``slow_call``: seconds to a stream's first
    content, or to an answer, above which a call is slow; ``None`` is off. ``slow_rate``: as ``error_rate``, of those.
    ``open_for``: seconds open, doubling up to ``max_open_for`` on each failed probe. ``probes``: calls admitted
    half-open.
    ``ramp``: seconds in which a model that has come back is given its traffic in steps; ``None`` is at once.
    """

    per: Literal["model", "provider"] = "model"
    failures: Count = 5
    error_rate: ShareAboveZero | None = None
    slow_call: Duration | None = None
    slow_rate: ShareAboveZero = 0.5
    window: Duration = 60.0
    min_calls: Count = 20
    open_for: Duration = 10.0
    max_open_for: Duration = 60.0
    probes: Count = 1
    ramp: Duration | None = None

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

    max_retries: CountOrZero = 3
    initial: DurationOrZero = 1.0
    max: DurationOrZero = 16.0
    multiplier: Factor = 2.0
    jitter: Share = 0.25

    @model_validator(mode="after")
    def _initial_fits(self) -> RetrySettings:
        if self.initial > self.max:
            raise conflict("initial", _too_long(self.initial, "max", self.max))
        return self


class QuotaSettings(Section):
    """The shares of a limit, 0 to 1, at which an alert is raised.

    ``switch_at``: the share above which the next member of the chain is preferred, if it can serve; ``None`` is off.
    """

    warning: ShareAboveZero = 0.80
    critical: ShareAboveZero = 0.95
    switch_at: ShareAboveZero | None = None

    @model_validator(mode="after")
    def _warning_comes_first(self) -> QuotaSettings:
        if self.warning >= self.critical:
            raise conflict("warning", f"found {self.warning:g}, expected a share below critical ({self.critical:g})")
        return self


class StoreSettings(Place):
    """Where shared state lives, and what holds while it cannot be reached.

    ``on_store_error``: ``local`` keeps a local share of the limit, ``open`` admits, ``closed`` refuses. ``timeout``:
    seconds without an answer of Redis after which that holds.
    """

    url: StoreUrl = "memory"
    on_store_error: Literal["local", "open", "closed"] = "local"
    timeout: StoreTimeout = 0.25


class LedgerSettings(Place):
    """Where the durable record is written, and for how many seconds single records are kept."""

    url: LedgerUrl = "sqlite:///wallie.db"
    retention: Duration = 90 * 86400.0


class FeatureSettings(Section):
    """What one product feature gets; a wait of ``None`` is as under ``admission``. Higher ``priority`` goes first.

    ``first_token``: seconds to an attempt's first content, after which it has failed; ``None`` leaves that to its
    provider. ``order``: in which its chains are asked; ``None`` is as under ``routing``. ``stream_recovery``: what
    becomes of a stream that breaks after text. ``hedge``: when the chain's next member is asked too; ``None`` is never.
    ``cache``: answers are given again to the same question. ``prompt_cache``: where prompts are marked for the vendors'
    caches. ``tier``: of requests that name no model. ``budget``: what it may spend; ``None`` is without limit.
    """

    patience: DurationOrZero | None = None
    max_wait: DurationOrZero | None = None
    first_token: FirstToken | None = None
    order: Order | None = None
    stream_recovery: StreamRecovery = "error"
    hedge: HedgeSettings | None = None
    priority: Priority = 0
    limits: LimitSettings = LimitSettings()
    cache: AnswerCache = None
    prompt_cache: PromptCache = None
    tier: TierName | None = None
    budget: FeatureBudget | None = None


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
    """Targets: shares from 0 to 1, ``p95_latency`` in seconds, ``monthly_cost`` in US dollars."""

    uptime: Share = 0.995
    p95_latency: Duration = 3.0
    error_rate: Share = 0.01
    monthly_cost: Money = 500.0
    fallback_rate: Share = 0.05
    critical_alerts: CountOrZero = 0


class DashboardSettings(Section):
    """The operator's page. ``name`` is the installation's, in its heading, in the API's summary and in webhooks.

    ``url`` is the page's address as operators have it, for the links in webhooks.
    """

    name: Title | None = None
    url: WebUrl | None = None


class WallieConfig(Section):
    """The whole ``wallie:`` section. A section that is left empty has its defaults; ``ledger: null`` is off.

    ``rate_limit_headers``: whose limits an answer's ``x-ratelimit-*`` tell, the ``vendor``'s, as LiteLLM sends them, or
    the installation's ``own``. ``reload``: a changed file is taken up ``on_request``; or as soon as it is seen to have
    changed, with ``watch``.
    """

    providers: Mapping[str, ProviderLimits] = Field(default_factory=lambda: dict(DEFAULT_PROVIDERS))
    admission: AdmissionSettings = AdmissionSettings()
    breaker: BreakerSettings = BreakerSettings()
    retry: RetrySettings = RetrySettings()
    quota: QuotaSettings = QuotaSettings()
    store: StoreSettings = StoreSettings()
    ledger: LedgerSettings | None = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    features: Mapping[FeatureName, FeatureSettings] = Field(default_factory=dict)
    experiments: Mapping[str, ExperimentSettings] = Field(default_factory=dict)
    routing: RoutingSettings = RoutingSettings()
    budget: GeneralBudget = GeneralBudget()
    kpis: KpiSettings = KpiSettings()
    forecast: ForecastSettings = ForecastSettings()
    dashboard: DashboardSettings = DashboardSettings()
    alerts: AlertSettings = AlertSettings()
    rate_limit_headers: Literal["vendor", "own"] = "vendor"
    reload: Literal["on_request", "watch"] = "on_request"
    admin_token: Secret | None = None

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
        return {key: value for key, value in data.items() if value is not None or key == "ledger"}

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
