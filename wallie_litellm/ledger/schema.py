"""The ledger's tables. A change here needs a step in ``migrations.py``.

``at`` is Unix seconds. The first column of every record table is the event's id: writing a record twice is harmless.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    and_,
    func,
    not_,
    or_,
)

from wallie_litellm.clock import DAY as DAY
from wallie_litellm.core.attempt_result import CALLERS_ERRORS, EXHAUSTED, KEY_REFUSED, TOO_LARGE
from wallie_litellm.core.http_status import PROVIDER_4XX
from wallie_litellm.ledger.percentiles import BINS, OLD_BINS

VERSION: Final = 5  # of the tables

metadata = MetaData()


def _id() -> Column[str]:
    return Column("id", String(48), primary_key=True)


def _at() -> Column[float]:
    return Column("at", Float(53), nullable=False)


def _name(column: str) -> Column[str]:
    return Column(column, String(200), nullable=False, server_default="")


def _optional(column: str) -> Column[str]:
    return Column(column, String(200))


def _count(column: str) -> Column[int]:
    return Column(column, BigInteger, nullable=False, server_default="0")


def _flag(column: str) -> Column[bool]:
    return Column(column, Boolean, nullable=False, server_default="0")


def _amount(column: str) -> Column[float]:
    return Column(column, Float(53), nullable=False, server_default="0")


# ``version`` is that of the tables, ``created`` the one that created ``wallie_usage``: of 1 it has ``old_bins``. From
# ``totals_from`` on (Unix seconds, a midnight in UTC) the coarse views of ``wallie_usage`` have every record.
schema_version = Table(
    "wallie_schema",
    metadata,
    Column("version", Integer, nullable=False),
    Column("created", Integer, nullable=False, server_default="1"),
    _count("totals_from"),
)

# One row per attempt: events.Settled. ``feature`` and ``user_id`` are empty where none was given. ``first_token_ms``,
# ``cache_write_tokens``, ``scope`` and the estimates are null where there is none, and in rows of version 1. ``hedge``
# is false in rows of earlier versions than 3. ``proxy_key`` is empty where none was given, and before version 4.
attempts = Table(
    "wallie_attempts",
    metadata,
    _id(),
    _at(),
    _name("worker"),
    Column("request_id", String(48), nullable=False),
    Column("number", Integer, nullable=False),
    _name("provider"),
    _name("model"),
    _name("deployment"),
    _name("operation"),
    _flag("stream"),
    _name("outcome"),
    _flag("success"),
    Column("error", Text),
    Column("status_code", Integer),
    _amount("latency_ms"),
    _amount("waited_ms"),
    Column("first_token_ms", Float(53)),
    _count("prompt_tokens"),
    _count("completion_tokens"),
    _count("total_tokens"),
    _count("cached_tokens"),
    Column("cache_write_tokens", BigInteger),
    _count("reasoning_tokens"),
    Column("cost_usd", Float(53)),
    _flag("unpriced"),
    _flag("estimated"),
    _count("charged_requests"),
    _count("charged_tokens"),
    _count("charged_input"),
    _count("charged_output"),
    Column("estimated_input", BigInteger),
    Column("estimated_output", BigInteger),
    Column("scope", String(200)),
    _flag("hedge"),
    _name("feature"),
    _name("user_id"),
    _name("proxy_key"),
    Column("metadata", JSON, nullable=False),
    Index("wallie_attempts_at", "at"),
)

# One row per request: events.Ended. ``cost_usd`` is that of all its attempts. ``requested`` to ``why`` are what routing
# decided, null where it did not, and in rows of earlier versions; ``planned`` is the event's ``order``.
# ``proxy_key`` is as in attempts.
requests = Table(
    "wallie_requests",
    metadata,
    _id(),
    _at(),
    _name("worker"),
    Column("request_id", String(48), nullable=False),
    _name("model"),
    _name("provider"),
    _name("operation"),
    _flag("stream"),
    _flag("success"),
    Column("error", Text),
    Column("status_code", Integer),
    _flag("by_caller"),
    _amount("latency_ms"),
    _amount("waited_ms"),
    _flag("used_fallback"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("cost_usd", Float(53)),
    _optional("requested"),
    _optional("tier"),
    _optional("experiment"),
    _optional("arm"),
    Column("unit", String(16)),
    _optional("auto_tier"),
    Column("auto_saved_usd", Float(53)),
    _optional("planned"),
    _flag("hedged"),
    _amount("wasted_usd"),
    _flag("cache_hit"),
    Column("saved_usd", Float(53)),
    Column("why", Text),
    _name("feature"),
    _name("user_id"),
    _name("proxy_key"),
    Column("metadata", JSON, nullable=False),
    Index("wallie_requests_at", "at"),
)
# Of the requests in experiments alone: it costs the others nothing.
Index(
    "wallie_requests_experiment",
    requests.c.experiment,
    requests.c.at,
    sqlite_where=requests.c.experiment.is_not(None),
    postgresql_where=requests.c.experiment.is_not(None),
)

# events.QuotaCrossed (type quota), events.ProviderDown (provider_down), events.Unpriced (unpriced),
# events.ExhaustionForeseen (forecast; used is what is expected, detail says when), events.BudgetCrossed (budget),
# events.LimitOverstated (limit_overstated; used is the configured amount), events.ArmStopped (arm_stopped; model is the
# arm, detail the experiment, used its share of errors), events.ErrorRateCrossed (error_rate; without a provider of the
# group that is the model) and events.QueueCrossed (queue): where those are over, level is resolved.
alerts = Table(
    "wallie_alerts",
    metadata,
    _id(),
    _at(),
    _name("worker"),
    _name("type"),
    _name("level"),
    _name("provider"),
    _name("dimension"),
    _name("model"),
    Column("utilization", Float(53)),
    Column("used", Float(53)),
    Column("limit", Float(53)),
    Column("detail", Text),
    Index("wallie_alerts_at", "at"),
)

# events.BreakerChanged (type breaker), events.HealthChanged (health), events.FellBack (fallback) and
# events.OrderChanged (order; model is the chain's first group in the file, before and after are its groups in order).
# ``model`` is empty for a breaker or a health that is the provider's.
transitions = Table(
    "wallie_transitions",
    metadata,
    _id(),
    _at(),
    _name("worker"),
    _name("type"),
    _name("provider"),
    _name("model"),
    _name("before"),
    _name("after"),
    Column("reason", Text),
    Column("request_id", String(48)),
    Index("wallie_transitions_at", "at"),
)

# events.OperatorActed.
actions = Table(
    "wallie_actions",
    metadata,
    _id(),
    _at(),
    _name("worker"),
    _name("actor"),
    _name("action"),
    _name("provider"),
    _name("model"),
    Column("detail", Text),
    Index("wallie_actions_at", "at"),
)

# events.UsageReported: what was used of a provider's limits outside the router.
outside_usage = Table(
    "wallie_outside_usage",
    metadata,
    _id(),
    _at(),
    _name("worker"),
    _name("provider"),
    _name("source"),
    _count("charged_requests"),
    _count("charged_tokens"),
    _count("charged_input"),
    _count("charged_output"),
    Index("wallie_outside_usage_at", "at"),
)

# events.FeedbackGiven: of several for one request the last counts.
feedback = Table(
    "wallie_feedback",
    metadata,
    _id(),
    _at(),
    _name("worker"),
    Column("request_id", String(48), nullable=False),
    Column("value", Float(53), nullable=False),
    Index("wallie_feedback_at", "at"),
    Index("wallie_feedback_request", "request_id"),
)

# events.ExperimentChanged. These rows are not pruned: they are few, and a conclusion holds until the file changes.
experiment_changes = Table(
    "wallie_experiments",
    metadata,
    _id(),
    _at(),
    _name("worker"),
    _name("experiment"),
    _name("definition"),
    _name("change"),
    _name("arm"),
    _name("actor"),
    Column("reason", Text),
    Index("wallie_experiments_experiment", "experiment", "at"),
)

QUARTER: Final = 900  # seconds; every time zone's midnight is the beginning of a quarter of an hour in UTC


def _usage_key() -> tuple[Column[Any], ...]:
    return (
        Column("grain", Integer, nullable=False),
        Column("start", BigInteger, nullable=False),
        Column("view", String(8), nullable=False),
        _name("provider"),
        _name("model"),
        _name("feature"),
        _name("user_id"),
    )


# Sums over attempts (views ``model``, ``user`` and ``key``) and over requests (view ``request``), by quarter of an hour
# and by day (``grain``, seconds). They are updated in the transaction that writes the records, and kept longer than
# those. View ``user`` sums by user alone, so that neither view multiplies the other's rows. View ``key`` sums the
# attempts that came with a key of the proxy's, by model and key; ``user_id`` holds the key there, since another column
# of the primary key would have all rows written anew. The coarse views sum those of ``model`` and ``request`` again,
# over everything and by provider alone, so that a chart reads a row, or one for each provider, for each quarter.
# ``latency_ms`` is of answers that did not come from a cache: attempts with the outcome success, requests that
# succeeded without a hit. ``first_tokens`` counts the streams with a ``first_token_ms``. ``by_caller`` counts the
# attempts of ``ended_by_caller``, ``fallbacks`` the requests that a fallback answered, ``hedged`` those with a hedge;
# ``wasted_usd`` and what was saved are sums over requests, whose ``cache_hits`` are answers that no provider was asked
# for. Reading a range of one view is fast because rows are stored in the key's order: there is no rowid.
usage = Table(
    "wallie_usage",
    metadata,
    *_usage_key(),
    _count("count"),
    _count("successes"),
    _count("cache_hits"),
    _count("by_caller"),
    _count("fallbacks"),
    _count("unpriced"),
    _count("estimated"),
    _amount("latency_ms"),
    _amount("waited_ms"),
    _count("first_tokens"),
    _amount("first_token_ms"),
    _count("prompt_tokens"),
    _count("completion_tokens"),
    _count("total_tokens"),
    _count("cached_tokens"),
    _count("cache_write_tokens"),
    _count("reasoning_tokens"),
    _amount("cost_usd"),
    _count("charged_requests"),
    _count("charged_tokens"),
    _count("charged_input"),
    _count("charged_output"),
    _count("hedged"),
    _amount("wasted_usd"),
    _amount("saved_usd"),
    _amount("auto_saved_usd"),
    PrimaryKeyConstraint("grain", "view", "start", "provider", "model", "feature", "user_id"),
    sqlite_with_rowid=False,
)

BAND: Final = 12  # bins of a histogram in one row
BANDS: Final = range(-(-BINS // BAND))
MEASURES: Final = ("latency", "first_token")
LATENCY, FIRST_TOKEN = MEASURES

# The histograms (``percentiles.py``) of the same attempts and requests, by measure. A row has the bins from ``band``
# times ``BAND`` on; bands without a value have none. Views ``user`` and ``key`` are not in it: a user's few calls would
# be as many rows; nor are those by provider, which would be half as many rows as by model. The key's order is that in
# which they are added up, with all measures and bands named.
histograms = Table(
    "wallie_histograms",
    metadata,
    *_usage_key(),
    Column("measure", String(16), nullable=False),
    Column("band", Integer, nullable=False),
    *(_count(f"bin_{number:02d}") for number in range(BAND)),
    PrimaryKeyConstraint("grain", "view", "measure", "band", "start", "provider", "model", "feature", "user_id"),
    sqlite_with_rowid=False,
)

# ``wallie_usage`` where version 1 created it: the histogram of latencies, in wider bins, of the rows it wrote.
old_bins = Table("wallie_usage", MetaData(), *_usage_key(), *(_count(f"latency_{n:02d}") for n in range(OLD_BINS)))

# The values of ``usage.view``. A condition on ``start`` is fast only together with ones on ``grain`` and ``view``.
ALL_ATTEMPTS: Final = "all_att"
ALL_REQUESTS: Final = "all_req"
ATTEMPTS_BY_PROVIDER: Final = "prov_att"
REQUESTS_BY_PROVIDER: Final = "prov_req"
_COARSE: Final = (ALL_ATTEMPTS, ALL_REQUESTS, ATTEMPTS_BY_PROVIDER, REQUESTS_BY_PROVIDER)
VIEWS: Final = ("model", "user", "key", "request", *_COARSE)

RECORD_TABLES: Final = {  # kind of record, as an export names it → table
    "attempt": attempts,
    "request": requests,
    "alert": alerts,
    "transition": transitions,
    "action": actions,
    "outside_usage": outside_usage,
    "feedback": feedback,
    "experiment": experiment_changes,
}

# :func:`~wallie_litellm.core.attempt_result.ended_by_caller`, of a row of ``attempts``.
BY_CALLER: Final = and_(
    not_(attempts.c.success),
    or_(
        func.coalesce(attempts.c.error, "").in_(sorted(CALLERS_ERRORS)),
        func.coalesce(attempts.c.error, "").like(f"%{TOO_LARGE}"),
        and_(
            func.coalesce(attempts.c.status_code, 0).between(400, 499),
            func.coalesce(attempts.c.status_code, 0).not_in(sorted(PROVIDER_4XX)),
            func.coalesce(attempts.c.error, "").not_like(f"%{EXHAUSTED}"),
            func.coalesce(attempts.c.error, "").not_like(f"%{KEY_REFUSED}"),
        ),
    ),
)
