"""The composition root: from a configuration to a guard with its sinks and restored limits, and to a router."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.clock import Clock
from wallie_litellm.config import RouterConfig, WallieConfig, load_config
from wallie_litellm.config.changes import ConfigChange
from wallie_litellm.config.models import DashboardSettings
from wallie_litellm.config.used_providers import used_models
from wallie_litellm.config.webhooks import WebhookSettings
from wallie_litellm.core.daily_quota import last_midnight
from wallie_litellm.core.day_forecast import Forecast
from wallie_litellm.core.demand import NOTHING, Demand, shares
from wallie_litellm.core.scopes import model_in
from wallie_litellm.core.scrubbing import mask_secrets
from wallie_litellm.errors import ConfigError
from wallie_litellm.forecast.alerts import LOOK_EVERY, ForecastAlerts
from wallie_litellm.forecast.limits import DayLimit
from wallie_litellm.forecast.watch import ForecastWatch, ReadRecord
from wallie_litellm.guard import Guard
from wallie_litellm.guard.admin_apis import AdminQuestions, admin_apis
from wallie_litellm.guard.live_config import LiveConfig, Prepared
from wallie_litellm.telemetry.bus import Bus
from wallie_litellm.telemetry.sink import Sink

if TYPE_CHECKING:
    from wallie_litellm.guard.router import WallieRouter
    from wallie_litellm.ledger.restore import Patterns, Restored, Windows
    from wallie_litellm.limiter.limiter import Limiter

logger = logging.getLogger(__name__)

SPOOL_TIMEOUT: Final = 2.0  # seconds that a start waits for the ledger to take in what its spool holds
EXPERIMENTS_EVERY: Final = 5.0  # seconds between two looks of a worker at its experiments in the ledger
EXPERIMENTS_TIMEOUT: Final = 2.0  # seconds that a start waits to know where its experiments stand
_WATCHED_BY: Final = (
    "providers",
    "features",
    "experiments",
    "forecast",
    "reload",
)  # sections that decide what is watched
RESTORE_TIMEOUT: Final = 5.0  # seconds that a start waits for the ledger before it begins with empty limits


def build_router(
    config: str | PathLike[str] | RouterConfig | None = None, *, guard: Guard | None = None, **overrides: Any
) -> WallieRouter:
    """A configured router from ``router_config.yaml`` (or ``WALLIE_CONFIG``).

    ``overrides`` are LiteLLM Router arguments that replace those of the file. The file's ``environment_variables``
    become variables of this process, as in LiteLLM's proxy; ``litellm_settings`` hold for this router alone.

    Raises:
        ConfigError: the file cannot be used; every problem is listed.
    """
    from wallie_litellm.guard.router import WallieRouter  # LiteLLM takes seconds to import
    from wallie_litellm.litellm_adapter.router_arguments import router_arguments

    loaded = config if isinstance(config, RouterConfig) else load_config(config)
    if not loaded.model_list and "model_list" not in overrides:
        raise ConfigError([f"{loaded.path}: model_list: missing; only the proxy can read models from its database"])
    os.environ.update(loaded.environment_variables)
    arguments = router_arguments(loaded, WallieRouter.get_valid_args(), overrides, os.environ)
    _open_cache(loaded)
    if guard is not None:
        router = WallieRouter(guard=guard, **arguments)
        if guard.live is not None and guard.live.is_of(loaded):
            router.follow_file(overrides)
        return router
    own = open_guard(loaded)
    router = WallieRouter(guard=own, **arguments)
    router.follow_file(overrides)
    weakref.finalize(router, own.close).atexit = False  # its sinks are drained when the router is dropped
    return router


def _open_cache(loaded: RouterConfig) -> None:
    """Open the response cache that the file turns on.

    Raises:
        ConfigError: LiteLLM cannot open it.
    """
    from wallie_litellm.litellm_adapter.response_cache import use_cache
    from wallie_litellm.litellm_adapter.router_arguments import cache_parameters

    parameters = cache_parameters(loaded, os.environ)
    if parameters is None:
        return
    try:
        use_cache(parameters)
    except Exception as error:  # of the cache's own package
        said = mask_secrets(f"{type(error).__name__}: {error}")
        raise ConfigError([f"{loaded.path}: litellm_settings.cache: LiteLLM cannot open it ({said})"]) from error


def _answer_store(loaded: RouterConfig) -> Any:
    """Where the answers of features with a cache are kept: in what ``cache_params`` name, else in memory.

    Raises:
        ConfigError: that keeps no exact answers, or cannot be opened.
    """
    from wallie_litellm.litellm_adapter.answer_store import open_store
    from wallie_litellm.litellm_adapter.router_arguments import answer_parameters

    where = f"{loaded.path}: litellm_settings.cache_params"
    try:
        parameters = answer_parameters(loaded, os.environ)
        return open_store(parameters, loaded.wallie.store.timeout)
    except ValueError as error:
        raise ConfigError([f"{where}.type: {error}"]) from error
    except OSError as error:
        raise ConfigError([f"{where}.disk_cache_dir: cannot be made ({type(error).__name__})"]) from error


def open_guard(
    loaded: RouterConfig, *, clock: Clock | None = None, processes: int = 1, is_proxy: bool = False
) -> Guard:
    """A guard for ``loaded``, with its ledger and sinks, whose limits continue from what the ledger has on record.

    ``processes`` is as for :class:`~wallie_litellm.guard.Guard`; ``is_proxy``: LiteLLM's proxy reads the file, too.

    Raises:
        ConfigError: a sink's package is not installed, a sink of one's own cannot be loaded, or the ledger's file is a
            folder.
    """
    bus = Bus()
    traced = loaded.wallie.telemetry.opentelemetry is not None
    trace_of_caller = _sink("opentelemetry").current_trace if traced else dict
    guard = Guard(loaded.wallie, clock=clock, bus=bus, processes=processes, trace_of_caller=trace_of_caller)
    guard.live = LiveConfig(loaded, guard.clock.wall, is_proxy=is_proxy)
    try:
        if guard.routing.answers is not None:
            guard.routing.answers.store = _answer_store(loaded)
        for make in _sinks(loaded, guard):
            bus.add(make)
        _restore(guard)
        begin_budgets(guard)
        watched = _Watched(guard)
        watched.begin(EXPERIMENTS_TIMEOUT)
        guard.reporter.alerts.start()
    except BaseException:
        guard.close()
        raise
    guard.live.follow(watched)
    guard.reload_with_fleet()
    guard.on_close(watched.close)
    return guard


class _Watched:
    """What else goes by a guard's configuration: vendors asked, experiments and forecasts, kept answers."""

    def __init__(self, guard: Guard) -> None:
        self._guard = weakref.ref(guard)
        self._close: list[Callable[[], object]] = []

    def begin(self, timeout: float) -> None:
        """Ask the vendors, and have the experiments stand where the ledger says that they do, from now on.

        That is waited for ``timeout`` seconds.
        """
        if (guard := self._guard()) is not None:
            self._close = [_ask_vendors(guard), _watch_experiments(guard, timeout), _watch_forecasts(guard)]
            if guard.config.reload == "watch":
                self._close.append(guard.watch_file())

    def close(self) -> None:
        """End it."""
        for close in self._close:
            close()

    def prepare_reload(self, change: ConfigChange) -> Prepared:
        """Begin anew, where the file has changed what it goes by.

        Raises:
            ConfigError: the first feature with a cache has nowhere to keep its answers.
        """
        old, new = change.old.wallie, change.new.wallie
        has_changed = any(getattr(old, name) != getattr(new, name) for name in _WATCHED_BY)
        guard, store = self._guard(), None
        if (
            guard is not None
            and guard.routing.answers is None
            and any(one.cache is not None for one in new.features.values())
        ):
            store = _answer_store(change.new)
        return Prepared(partial(self._begin_anew, store) if has_changed else lambda: None)

    def _begin_anew(self, store: Any) -> None:
        guard = self._guard()
        if guard is not None and not guard.closed:
            if guard.routing.answers is not None and guard.routing.answers.store is None:
                guard.routing.answers.store = store
            self.close()
            self.begin(0.0)


def _ask_vendors(guard: Guard) -> Callable[[], object]:
    """Have the vendors asked for the account's limits for whose administration API the environment has a key."""
    learned = {name for name, limits in guard.config.providers.items() if limits.learn != "off"}
    apis = [api for api in admin_apis(os.environ) if api.vendor in learned]
    return AdminQuestions(apis, guard.vendor_limits.learn_of, guard.vendor_limits.are_askable).close


def begin_budgets(guard: Guard) -> None:
    """Have the budgets go on with what the ledger has on record, and ask it for users that come later."""
    reader = None
    if guard.config.ledger is not None:
        from wallie_litellm.ledger.spending import SpendingReader

        reader = SpendingReader(guard.config.ledger.url, RESTORE_TIMEOUT, guard.processes)
    guard.budgets.begin(reader, partial(guard.bus.flush_blocking, SPOOL_TIMEOUT))


def _watch_experiments(guard: Guard, timeout: float) -> Callable[[], object]:
    """Have the experiments stand where the ledger says they do, now and from now on; what ends that."""
    experiments, ledger = guard.routing.experiments, guard.config.ledger
    if experiments is None or ledger is None:
        return lambda: None
    from wallie_litellm.ledger.experiment_watch import ExperimentWatch

    publish, once = guard.reporter.publish, guard.reporter.once
    watch = ExperimentWatch(
        ledger.url, experiments.by_name, publish, once, now=guard.clock.wall, interval=EXPERIMENTS_EVERY
    )
    watch.start(timeout)
    return watch.close


def _watch_forecasts(guard: Guard) -> Callable[[], object]:
    """Have limits per day forecast by what the ledger has of their use, and those that will run out announced."""
    settings, ledger, clock = guard.config.forecast, guard.config.ledger, guard.clock
    if ledger is None and not settings.alert:
        return lambda: None
    forecasts, on_foreseen = guard.forecasts, guard.reporter.on_foreseen

    def announce(limit: DayLimit, forecast: Forecast, full: float, reset_at: float) -> None:
        on_foreseen(limit, forecast, full, reset_at, forecasts.zone(limit))

    alerts = ForecastAlerts(settings.lead, announce) if settings.alert else None
    read: ReadRecord | None = None
    if ledger is not None:
        from wallie_litellm.ledger.daily_use import read_record  # late: SQLAlchemy takes a moment to import

        read = partial(read_record, ledger.url, partial(model_patterns, guard))
    budget = guard.reporter.budget
    watch = ForecastWatch(
        forecasts,
        guard.limiters,
        alerts,
        read,
        now=clock.wall,
        interval=LOOK_EVERY,
        budget=lambda: (budget.spent_at(clock.wall()), budget.limit),
        budgets=guard.budgets.rows,
        processes=guard.processes,
    )
    watch.start()
    return watch.close


def worker_name() -> str:
    """This process' name among those that write the same ledger."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _sinks(loaded: RouterConfig, guard: Guard) -> Iterator[Callable[[], Sink]]:
    """A factory for each configured sink. A sink's package is imported when the sink is made."""
    config = loaded.wallie
    telemetry, spool = config.telemetry, Path(config.telemetry.spool)
    if (ledger := ledger_sink(config)) is not None:
        yield ledger
    if (posthog := telemetry.posthog) is not None and posthog.api_key is not None:
        key = posthog.api_key.get_secret_value()
        yield lambda: _sink("posthog").PostHogSink(key, posthog.host, _spool(spool, "posthog", f"{posthog.host} {key}"))
    if (slack := telemetry.slack) is not None and slack.webhook_url is not None:
        webhook = slack.webhook_url.get_secret_value()
        yield lambda: _sink("slack").SlackSink(webhook)
    for name, settings in telemetry.webhooks.items():
        yield partial(_webhook, name, settings, config.dashboard, spool)
    if (sentry := telemetry.sentry) is not None and sentry.dsn is not None:
        dsn = sentry.dsn.get_secret_value()
        yield lambda: _sink("sentry").SentrySink(dsn)
    if (prometheus := telemetry.prometheus) is not None:
        yield lambda: _prometheus(guard, loaded)
        if prometheus.port is not None:
            _serve_metrics(guard.bus, prometheus.port, prometheus.host)
    if (otel := telemetry.opentelemetry) is not None:
        yield lambda: _sink("opentelemetry").OpenTelemetrySink(user_ids=otel.user_ids)
    for path in telemetry.sinks:
        yield _own_sink(path, loaded.path.parent)


def _sink(name: str) -> Any:
    return import_module(f"wallie_litellm.telemetry.sinks.{name}")


def ledger_sink(config: WallieConfig) -> Callable[[], Sink] | None:
    """A factory for the sink that writes the configured ledger; ``None`` where none is configured.

    Raises:
        ConfigError: the file of the ledger is a folder.
    """
    if (settings := config.ledger) is None:
        return None
    from wallie_litellm.ledger.engine import identity_of, require_no_folder  # late: SQLAlchemy takes a moment to import

    require_no_folder(settings.url)

    def make() -> Sink:
        from wallie_litellm.ledger.writer import LedgerSink

        spool = _spool(Path(config.telemetry.spool), "ledger", identity_of(settings.url))
        return LedgerSink(settings.url, spool, retention=settings.retention, worker=worker_name())

    return make


def _spool(folder: Path, name: str, receiver: str) -> Path:
    """The spool of one receiver: records for one database or project must not reach another."""
    return folder / f"{name}-{sha256(receiver.encode()).hexdigest()[:12]}"


def _webhook(name: str, settings: WebhookSettings, page: DashboardSettings, spool: Path) -> Sink:
    from wallie_litellm.telemetry.sinks.webhook import WebhookSink
    from wallie_litellm.telemetry.sinks.webhook_messages import Sender

    url = settings.url.get_secret_value()
    return WebhookSink(
        name,
        url,
        Sender(page.name or socket.gethostname(), page.url),
        _spool(spool, f"webhook-{name}", f"{settings.format} {url}"),
        secret=None if settings.secret is None else settings.secret.get_secret_value(),
        form=settings.format,
        events=settings.events,
    )


def _prometheus(guard: Guard, loaded: RouterConfig) -> Sink:
    known = {str(entry.get("model_name")) for entry in loaded.model_list}
    known.update(model_in(scope) for _, scope, _ in used_models(loaded))
    known.update(pattern for limits in loaded.wallie.providers.values() for pattern in limits.models)
    sink: Sink = _sink("prometheus").PrometheusSink(
        status=guard.status, sink_stats=guard.bus.stats, features=sorted(loaded.wallie.features), models=sorted(known)
    )
    return sink


def _serve_metrics(bus: Bus, port: int, host: str) -> None:
    # Apart from the factory: a forked child makes its own sink, and then this port is taken.
    for sink in bus.sinks():
        if sink.name != "prometheus":
            continue
        try:
            sink.serve(port, host)  # type: ignore[attr-defined] # a PrometheusSink
        except ConfigError as error:  # one of several workers with one file gets the port; all serve requests
            logger.error("%s", error)


def _own_sink(path: str, folder: Path) -> Callable[[], Sink]:
    """A sink named ``module:Class``, from a file beside the configuration or from any importable module."""
    where = f"wallie.telemetry.sinks: {path}"
    module_name, _, attribute = path.partition(":")
    try:
        make = getattr(_module(module_name, folder), attribute)
    except Exception as error:  # a module of the application's may raise anything
        raise ConfigError([f"{where}: cannot be loaded ({type(error).__name__}: {error})"]) from error
    if not callable(make):
        raise ConfigError([f"{where}: found {type(make).__name__}, expected a class or a function that makes a sink"])

    def checked() -> Sink:
        try:
            sink: Sink = make()
        except Exception as error:
            raise ConfigError([f"{where}: cannot be made ({type(error).__name__}: {error})"]) from error
        missing = [name for name in ("name", "handle", "flush", "close", "stats") if not hasattr(sink, name)]
        if missing:
            raise ConfigError([f"{where}: lacks {', '.join(missing)} of wallie_litellm.telemetry.sink.Sink"])
        return sink

    return checked


def _module(name: str, folder: Path) -> ModuleType:
    """The file of this name in ``folder``, else the installed module."""
    file = (folder / f"{name}.py").resolve()
    if not file.is_file():
        return import_module(name)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    # Another module of this name may be loaded: an installed one, or that of another configuration.
    label = name if loaded is None else f"{name}@{file.parent}"
    if label in sys.modules:
        return sys.modules[label]
    spec = importlib.util.spec_from_file_location(label, file)
    assert spec is not None and spec.loader is not None, "it is a file of Python"  # noqa: S101, PT018 - narrows the types
    module = sys.modules[label] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[label]
        raise
    return module


def _restore(guard: Guard) -> None:
    """Continue from the ledger: today's and the last minutes' usage, the month's cost, the alerts already sent."""
    config = guard.config
    if config.ledger is None:
        return
    from wallie_litellm.ledger.restore import restore

    guard.bus.flush_blocking(SPOOL_TIMEOUT)  # the spool may hold records of the last process
    wall = guard.clock.wall()
    found = restore(config.ledger.url, usage_windows(guard), model_patterns(guard), wall=wall, timeout=RESTORE_TIMEOUT)
    if found is None:
        return
    restore_limits(guard, found, wall)
    reporter = guard.reporter
    reporter.budget.restore(wall, found.month_cost, found.budget_levels)
    reporter.unpriced_announced.update(found.unpriced)


def usage_windows(guard: Guard) -> Windows:
    """For each limiter, the Unix times of its last midnight and of the oldest usage that its limits still count."""
    wall = guard.clock.wall()
    zones = {name: limits.reset_timezone for name, limits in guard.config.providers.items()}
    return {
        limiter.name: (last_midnight(wall, zones.get(limiter.name, "UTC")), wall - limiter.lookback())
        for limiter in guard.limiters()
    }


def model_patterns(guard: Guard) -> Patterns:
    """For each provider with limits of its models, how a record's model and group lead to the pattern of these."""
    return {limiter.name: limiter.scope_of for limiter in guard.limiters() if limiter.scopes}


def restore_limits(guard: Guard, found: Restored, wall: float) -> None:
    """Charge the limits with the usage that the ledger ``found`` at ``wall``, in Unix seconds."""
    for limiter in guard.limiters():
        _restore_scope(guard, limiter, found.day.get(limiter.name, NOTHING), found.recent.get(limiter.name, ()), wall)
        for scope in limiter.scopes:
            day, recent = found.models.get(limiter.name, {}).get(scope, (NOTHING, ()))
            _restore_scope(guard, limiter, day, recent, wall, scope)


def _restore_scope(
    guard: Guard, limiter: Limiter, day: Demand, recent: Sequence[tuple[float, Demand]], wall: float, scope: str = ""
) -> None:
    # The ledger records all processes together: each takes an equal part.
    (part_of_day,) = shares([day], guard.processes)
    parts = shares((amount for _, amount in recent), guard.processes)
    uses = [(max(0.0, wall - at), part) for (at, _), part in zip(recent, parts, strict=True)]
    limiter.restore(part_of_day, uses, scope)
