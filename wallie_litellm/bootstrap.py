"""From a configuration to a guard with everything attached: the sinks, and what an earlier process had used."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wallie_litellm.clock import Clock
from wallie_litellm.config import RouterConfig, WallieConfig
from wallie_litellm.core.daily_quota import last_midnight
from wallie_litellm.core.demand import NOTHING, shares
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard import Guard
from wallie_litellm.telemetry.bus import Bus
from wallie_litellm.telemetry.sink import Sink

if TYPE_CHECKING:
    from wallie_litellm.ledger.restore import Restored, Windows

logger = logging.getLogger(__name__)

SPOOL_TIMEOUT = 2.0  # seconds that a start gives the ledger to take up what waits in its spool
RESTORE_TIMEOUT = 5.0  # seconds that a start waits for the ledger before it begins with empty limits


def open_guard(loaded: RouterConfig, *, clock: Clock | None = None, processes: int = 1) -> Guard:
    """A guard for ``loaded`` that writes the ledger, tells the sinks, and goes on where the last process stopped.

    ``processes`` is as for :class:`~wallie_litellm.guard.Guard`.

    Raises:
        ConfigError: a sink's package is not installed, or a sink of one's own cannot be loaded.
    """
    bus = Bus()
    guard = Guard(loaded.wallie, clock=clock, bus=bus, processes=processes)
    try:
        for make in _sinks(loaded, guard):
            bus.add(make)
        _restore(guard)
    except BaseException:
        guard.close()
        raise
    return guard


def worker_name() -> str:
    """Which process this is, among those that write the same ledger."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _sinks(loaded: RouterConfig, guard: Guard) -> Iterator[Callable[[], Sink]]:
    """How to make each configured sink. Their packages are imported when one is made."""
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
    if (sentry := telemetry.sentry) is not None and sentry.dsn is not None:
        dsn = sentry.dsn.get_secret_value()
        yield lambda: _sink("sentry").SentrySink(dsn)
    if (prometheus := telemetry.prometheus) is not None:
        yield lambda: _prometheus(guard, loaded)
        if prometheus.port is not None:
            _serve_metrics(guard.bus, prometheus.port, prometheus.host)
    if (otel := telemetry.opentelemetry) is not None:
        yield lambda: _sink("opentelemetry").OpenTelemetrySink(user_ids=otel.user_ids)
        guard.trace_of_caller = _sink("opentelemetry").current_trace
    for path in telemetry.sinks:
        yield _own_sink(path, loaded.path.parent)


def _sink(name: str) -> Any:
    return import_module(f"wallie_litellm.telemetry.sinks.{name}")


def ledger_sink(config: WallieConfig) -> Callable[[], Sink] | None:
    """How to make what writes the configured ledger; ``None`` if there shall be none."""
    if (settings := config.ledger) is None:
        return None

    def make() -> Sink:
        from wallie_litellm.ledger.engine import identity_of
        from wallie_litellm.ledger.writer import LedgerSink

        spool = _spool(Path(config.telemetry.spool), "ledger", identity_of(settings.url))
        return LedgerSink(settings.url, spool, retention=settings.retention, worker=worker_name())

    return make


def _spool(folder: Path, name: str, receiver: str) -> Path:
    """Where records wait for one receiver: another database or another project must not be given them."""
    return folder / f"{name}-{sha256(receiver.encode()).hexdigest()[:12]}"


def _prometheus(guard: Guard, loaded: RouterConfig) -> Sink:
    groups = sorted({str(entry.get("model_name")) for entry in loaded.model_list})
    sink: Sink = _sink("prometheus").PrometheusSink(
        status=guard.status, sink_stats=guard.bus.stats, features=sorted(loaded.wallie.features), models=groups
    )
    return sink


def _serve_metrics(bus: Bus, port: int, host: str) -> None:
    # Not where the sink is made: a forked child makes its own, and this port is taken then.
    for sink in bus.sinks():
        if sink.name != "prometheus":
            continue
        try:
            sink.serve(port, host)  # type: ignore[attr-defined] # this one can
        except ConfigError as error:  # of several workers with one file, one gets the port: all serve requests
            logger.error("%s", error)


def _own_sink(path: str, folder: Path) -> Callable[[], Sink]:
    """A sink named ``module:Class``, from a file beside the configuration or from any importable module."""
    where = f"wallie.telemetry.sinks: {path}"
    module_name, _, attribute = path.partition(":")
    try:
        make = getattr(_module(module_name, folder), attribute)
    except Exception as error:  # a stranger's module may raise anything
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
    # Another module of this name may be in use: that of a package, or of another configuration.
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
    """Take up today's and the last minutes' usage, the month's cost and what has been said, from the ledger."""
    config = guard.config
    if config.ledger is None:
        return
    from wallie_litellm.ledger.restore import restore

    guard.bus.flush_blocking(SPOOL_TIMEOUT)  # what the last process left in the spool belongs to it
    wall = guard.clock.wall()
    found = restore(config.ledger.url, usage_windows(guard), wall=wall, timeout=RESTORE_TIMEOUT)
    if found is None:
        return
    restore_limits(guard, found, wall)
    reporter = guard.reporter
    reporter.budget.restore(wall, found.month_cost, found.budget_levels)
    reporter.unpriced_announced.update(found.unpriced)


def usage_windows(guard: Guard) -> Windows:
    """Since when the limits of each provider and feature remember what was used."""
    wall = guard.clock.wall()
    zones = {name: limits.reset_timezone for name, limits in guard.config.providers.items()}
    return {
        limiter.name: (last_midnight(wall, zones.get(limiter.name, "UTC")), wall - limiter.lookback())
        for limiter in guard.limiters()
    }


def restore_limits(guard: Guard, found: Restored, wall: float) -> None:
    """Have the limits go on with what the ledger ``found`` to be used at ``wall``."""
    for limiter in guard.limiters():
        # The ledger is of all processes, and nobody knows which of them this one replaces.
        (day,) = shares([found.day.get(limiter.name, NOTHING)], guard.processes)
        lately = found.recent.get(limiter.name, [])
        parts = shares((amount for _, amount in lately), guard.processes)
        recent = [(max(0.0, wall - at), part) for (at, _), part in zip(lately, parts, strict=True)]
        limiter.restore(day, recent)
