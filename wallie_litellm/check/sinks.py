"""The checks of the ledger and the telemetry: each section is complete, its package installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from wallie_litellm.check.packages import is_installed
from wallie_litellm.config import RouterConfig
from wallie_litellm.core.loopback import is_loopback
from wallie_litellm.errors import ConfigError
from wallie_litellm.telemetry.alert_facts import FACT_TYPES


class _Sink(NamedTuple):
    """A section of ``wallie.telemetry``: its secret, the variable that may hold it, its extra, and a module of that."""

    section: str
    secret: str | None
    variable: str | None
    extra: str | None
    module: str | None


_SINKS: Final = (
    _Sink("posthog", "api_key", "POSTHOG_API_KEY", "posthog", "posthog"),
    _Sink("slack", "webhook_url", "SLACK_WEBHOOK_URL", None, None),
    _Sink("sentry", "dsn", "SENTRY_DSN", "sentry", "sentry_sdk"),
    _Sink("prometheus", None, None, "prometheus", "prometheus_client"),
    _Sink("opentelemetry", None, None, "opentelemetry", "opentelemetry.trace"),
)


def sink_problems(config: RouterConfig) -> Iterator[str]:
    """Sinks that are on and cannot be built."""
    for sink, is_on in _configured(config):
        if is_on and sink.module is not None and not is_installed(sink.module):
            yield f"wallie.telemetry.{sink.section}: its package is missing; install wallie-litellm[{sink.extra}]"
    yield from ledger_problems(config)
    for path in config.wallie.telemetry.sinks:
        module = path.partition(":")[0]
        if not (config.path.parent / f"{module}.py").is_file() and not is_installed(module):
            yield f"wallie.telemetry.sinks: {path}: no {module}.py beside this file, and no installed module {module}"


def ledger_problems(config: RouterConfig) -> Iterator[str]:
    """What keeps the ledger from being opened, as far as it shows without a connection."""
    if config.wallie.ledger is None:
        return
    if config.wallie.ledger.url.startswith("postgresql:") and not is_installed("asyncpg"):
        yield "wallie.ledger.url: PostgreSQL's driver is missing; install wallie-litellm[postgres]"
        return
    from wallie_litellm.ledger.engine import open_engine, require_no_folder  # late: SQLAlchemy takes a moment to import

    try:
        open_engine(config.wallie.ledger.url)  # connects to nothing
        require_no_folder(config.wallie.ledger.url)
    except ConfigError as error:
        yield from error.problems


def ledger_file_problems(config: RouterConfig) -> Iterator[str]:
    """A file that is not the ledger's: the proxy would serve all the same, and its records wait in the spool."""
    if config.wallie.ledger is None:
        return
    from wallie_litellm.ledger.engine import file_of, is_other_file  # late: SQLAlchemy takes a moment to import

    with suppress(ConfigError):  # of the URL: `ledger_problems` has it
        if (file := file_of(config.wallie.ledger.url)) is not None and is_other_file(file):
            yield f"wallie.ledger.url: {file} is no SQLite database, expected one, or none yet"


def secret_notes(config: RouterConfig) -> Iterator[str]:
    """Sinks that are named and stay off, since their secret is missing."""
    for sink, is_on in _configured(config):
        if not is_on:
            where = f"wallie.telemetry.{sink.section}"
            yield f"{where}: no {sink.secret} here and no {sink.variable} in the environment: off"


def webhook_notes(config: RouterConfig) -> Iterator[str]:
    """Patterns of alerts that no alert has, and addresses that others can read on the way."""
    for name, settings in config.wallie.telemetry.webhooks.items():
        where = f"wallie.telemetry.webhooks.{name}"
        for pattern in settings.events:
            if not any(fnmatchcase(known, pattern) for known in FACT_TYPES):
                yield f"{where}.events: {pattern} is no type of an alert; there are {', '.join(FACT_TYPES)}"
        url = urlsplit(settings.url.get_secret_value())
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            yield f"{where}.url: http to another machine: what is sent can be read on its way"


def _configured(config: RouterConfig) -> Iterator[tuple[_Sink, bool]]:
    """Each section that the file has, and whether it is on."""
    for sink in _SINKS:
        section = getattr(config.wallie.telemetry, sink.section)
        if section is not None:
            yield sink, sink.secret is None or getattr(section, sink.secret) is not None
