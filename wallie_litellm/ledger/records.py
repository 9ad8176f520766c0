"""Events as rows of the ledger's tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, Final, NamedTuple

from sqlalchemy import Column

from wallie_litellm.config.values import LARGEST_COUNT
from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.core.exhaustion_text import exhaustion_text
from wallie_litellm.core.scrubbing import JsonRules, json_safe, type_name, valid_unicode
from wallie_litellm.events import (
    ArmStopped,
    BreakerChanged,
    BudgetCrossed,
    Ended,
    ErrorRateCrossed,
    Event,
    ExhaustionForeseen,
    ExperimentChanged,
    FeedbackGiven,
    FellBack,
    HealthChanged,
    LimitOverstated,
    OperatorActed,
    OrderChanged,
    ProviderDown,
    QueueCrossed,
    QuotaCrossed,
    Settled,
    Unpriced,
    UsageReported,
)
from wallie_litellm.ledger.schema import RECORD_TABLES

NAME_LENGTH: Final = 200  # characters of a name
_TEXT_LENGTH: Final = 2000  # characters of other text
_DEEPEST: Final = 20  # levels of metadata

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode

Row = tuple[Any, ...]


class Record(NamedTuple):
    """A row for the table of ``kind``; ``values`` are in the order of its columns, the id first, metadata as JSON."""

    kind: str
    values: Row


# The names of each kind's columns, in the order of ``Record.values``.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    kind: tuple(column.name for column in table.columns) for kind, table in RECORD_TABLES.items()
}


def record_of(event: Event, worker: str) -> Record:
    """``event`` as a record; ``worker`` names the process that published it.

    Text is cut to the length of its column, and characters that a database refuses are removed.
    """
    kind, make = _ROWS[type(event)]
    return Record(kind, make(event, worker))


def as_json(record: Record) -> dict[str, Any]:
    """``record`` as a dict that :func:`from_json` reads, also in a later version with more columns."""
    return {"kind": record.kind, **dict(zip(COLUMNS[record.kind], record.values, strict=True))}


def from_json(found: Mapping[str, Any]) -> Record | None:
    """The record that :func:`as_json` wrote, or ``None`` for a kind that this version does not have."""
    kind = str(found.get("kind"))
    if kind not in COLUMNS or not found.get("id"):
        return None
    defaults = _DEFAULTS[kind]
    return Record(kind, tuple(found.get(name, default) for name, default in zip(COLUMNS[kind], defaults, strict=True)))


def _attempt(event: Settled, worker: str) -> Row:
    return (
        event.id,
        event.at,
        worker,
        event.request_id,
        event.number,
        _name(event.provider),
        _name(event.model),
        _name(event.deployment),
        _name(event.operation),
        event.stream,
        _name(event.outcome),
        event.success,
        _text(event.error),
        event.status_code,
        event.latency_ms,
        event.waited_ms,
        event.first_token_ms,
        *_counts(event.prompt_tokens, event.completion_tokens, event.total_tokens, event.cached_tokens),
        _count(event.cache_write_tokens),
        _count(event.reasoning_tokens),
        event.cost_usd,
        event.unpriced,
        event.estimated,
        *_counts(*event.charged),
        _count(event.estimated_input),
        _count(event.estimated_output),
        _optional(event.scope),
        event.hedge,
        _name(event.feature),
        _name(event.user_id),
        _name(event.proxy_key),
        _metadata(event.metadata),
    )


def _request(event: Ended, worker: str) -> Row:
    return (
        event.id,
        event.at,
        worker,
        event.request_id,
        _name(event.model),
        _name(event.provider),
        _name(event.operation),
        event.stream,
        event.success,
        _text(event.error),
        event.status_code,
        event.by_caller,
        event.latency_ms,
        event.waited_ms,
        event.used_fallback,
        len(event.settled),
        _cost(event.settled),
        *(_optional(event.requested), _optional(event.tier), _optional(event.experiment), _optional(event.arm)),
        *(event.unit, _optional(event.auto_tier), event.auto_saved_usd, _optional(event.order)),
        *(event.hedged, event.wasted_usd, event.cache_hit, event.saved_usd),
        _text("; ".join(event.why)) if event.why else None,
        _name(event.feature),
        _name(event.user_id),
        _name(event.proxy_key),
        _metadata(event.metadata),
    )


def _quota_alert(event: QuotaCrossed, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, "quota", _name(event.level), _name(event.provider), _name(event.dimension)),
        *(_name(event.model), event.utilization, float(event.used), float(event.limit), None),
    )


def _foreseen_alert(event: ExhaustionForeseen, worker: str) -> Row:
    ends = exhaustion_text(event.exhausts_at, event.earliest, event.latest, event.reset_at, event.timezone, event.at)
    return (
        *(event.id, event.at, worker, "forecast", "warning", _name(event.provider), _name(event.dimension)),
        *(_name(event.model), event.expected / event.limit, event.expected, event.limit, ends),
    )


def _overstated_alert(event: LimitOverstated, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, "limit_overstated", "warning", _name(event.provider), _name(event.dimension)),
        *(_name(event.model), None, float(event.configured), float(event.learned), None),
    )


def _stopped_alert(event: ArmStopped, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, "arm_stopped", "warning", "", "error_rate", _name(event.arm)),
        *(None, event.error_rate, event.limit, _name(event.experiment)),
    )


def _error_rate_alert(event: ErrorRateCrossed, worker: str) -> Row:
    level = "resolved" if event.resolved else "critical"
    counts = f"{event.failed} of {event.requests} in {event.window:g} s"
    return (
        *(event.id, event.at, worker, "error_rate", level, _name(event.provider), "error_rate", _name(event.model)),
        *(event.error_rate, event.error_rate, event.limit, _lasted(event, counts)),
    )


def _queue_alert(event: QueueCrossed, worker: str) -> Row:
    level = "resolved" if event.resolved else "warning"
    counts = f"{event.waiting} waiting" if event.resolved else f"{event.waiting} or more for {event.window:g} s"
    return (
        *(event.id, event.at, worker, "queue", level, _name(event.provider), "queue", ""),
        *(event.waiting / event.limit, float(event.waiting), float(event.limit), _lasted(event, counts)),
    )


def _lasted(event: ErrorRateCrossed | QueueCrossed, counts: str) -> str:
    return f"after {event.lasted:.0f} s: {counts}" if event.resolved else counts


def _unpriced_alert(event: Unpriced, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, "unpriced", "", _name(event.provider), "", _name(event.model)),
        *(None, None, None, _name(event.deployment)),
    )


def _down_alert(event: ProviderDown, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, "provider_down", "critical", _name(event.provider), ""),
        *(_name(event.model), None, None, None, _text(event.reason)),
    )


def _budget_alert(event: BudgetCrossed, worker: str) -> Row:
    """A budget of the file has its window as dimension, and a feature's name as a provider's place has it."""
    of_file = event.on_exhausted is not None
    owner = f"{FEATURE}{event.feature}" if event.feature else ""
    key = event.proxy_key and f"key {event.proxy_key}"
    detail = " ".join(filter(None, (event.month, event.user_id, key)))
    return (
        *(event.id, event.at, worker, "budget", _name(event.level), _name(owner)),
        *(event.window if of_file else "", "", event.utilization, event.spent_usd, event.budget_usd, _text(detail)),
    )


def _breaker(event: BreakerChanged, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, "breaker", _name(event.provider), _name(event.model)),
        *(_name(event.before), _name(event.after), _text(event.reason), None),
    )


def _health(event: HealthChanged, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, "health", _name(event.provider), _name(event.model)),
        *(_name(event.before), _name(event.status), _text(event.reason), None),
    )


def _order(event: OrderChanged, worker: str) -> Row:
    reason = f"{event.reason} (streams)" if event.stream else event.reason
    return (
        *(event.id, event.at, worker, "order", "", _name(event.chain[0]), _name(", ".join(event.before))),
        *(_name(", ".join(event.after)), _text(reason), None),
    )


def _fallback(event: FellBack, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, "fallback", _name(event.from_provider), ""),
        *(_name(event.from_model), _name(event.to_model), _text(event.reason), event.request_id),
    )


def _action(event: OperatorActed, worker: str) -> Row:
    return (
        event.id,
        event.at,
        worker,
        _name(event.actor),
        _name(event.action),
        _name(event.provider),
        _name(event.model),
        _text(event.detail),
    )


def _outside_usage(event: UsageReported, worker: str) -> Row:
    return (event.id, event.at, worker, _name(event.provider), _name(event.source), *_counts(*event.charged))


def _feedback(event: FeedbackGiven, worker: str) -> Row:
    return event.id, event.at, worker, event.request_id, event.value


def _experiment(event: ExperimentChanged, worker: str) -> Row:
    return (
        *(event.id, event.at, worker, _name(event.experiment), _name(event.definition), _name(event.change)),
        *(_name(event.arm), _name(event.actor), _text(event.reason)),
    )


_ROWS: dict[type, tuple[str, Callable[[Any, str], Row]]] = {
    Settled: ("attempt", _attempt),
    Ended: ("request", _request),
    QuotaCrossed: ("alert", _quota_alert),
    ExhaustionForeseen: ("alert", _foreseen_alert),
    LimitOverstated: ("alert", _overstated_alert),
    Unpriced: ("alert", _unpriced_alert),
    ProviderDown: ("alert", _down_alert),
    BudgetCrossed: ("alert", _budget_alert),
    BreakerChanged: ("transition", _breaker),
    HealthChanged: ("transition", _health),
    FellBack: ("transition", _fallback),
    OrderChanged: ("transition", _order),
    OperatorActed: ("action", _action),
    UsageReported: ("outside_usage", _outside_usage),
    FeedbackGiven: ("feedback", _feedback),
    ExperimentChanged: ("experiment", _experiment),
    ArmStopped: ("alert", _stopped_alert),
    ErrorRateCrossed: ("alert", _error_rate_alert),
    QueueCrossed: ("alert", _queue_alert),
}


def _default(column: Column[Any]) -> Any:
    if column.name == "metadata":
        return "{}"
    return None if column.nullable else column.type.python_type()


_DEFAULTS: dict[str, Row] = {
    kind: tuple(_default(column) for column in table.columns) for kind, table in RECORD_TABLES.items()
}


def _name(text: str | None) -> str:
    return _cleansed(text[:NAME_LENGTH]) if text else ""


def _optional(text: str | None) -> str | None:
    return None if text is None else _name(text)


def _text(text: str | None) -> str | None:
    return text if text is None else _cleansed(text[:_TEXT_LENGTH])


@lru_cache(maxsize=4096)
def _cleansed(text: str) -> str:
    """``text`` without NUL, which PostgreSQL does not store, and without lone surrogates."""
    return valid_unicode(str(text).replace("\0", ""))


def _counts(*numbers: int) -> Row:
    return numbers if max(numbers) <= LARGEST_COUNT else tuple(min(number, LARGEST_COUNT) for number in numbers)


def _count(number: int | None) -> int | None:
    return number if number is None or number <= LARGEST_COUNT else LARGEST_COUNT


def _cost(settled: Sequence[Settled]) -> float | None:
    """The cost of all attempts; ``None`` where one of them has no known price, or there is none."""
    if not settled or any(attempt.unpriced for attempt in settled):
        return None
    return sum(attempt.cost_usd or 0.0 for attempt in settled)


def _metadata(metadata: Mapping[str, Any]) -> str:
    if not metadata:
        return "{}"
    try:
        return _encode(metadata)
    except (TypeError, ValueError):
        return _encode(json_safe(metadata, _RULES))


def _leaf(value: Any) -> Any:
    if isinstance(value, str | int) or (isinstance(value, float) and isfinite(value)):
        return value
    return str(value) if isinstance(value, float) else type_name(value)


# Infinities become text, and any iterable a list.
_RULES: Final = JsonRules(depth=_DEEPEST, leaf=_leaf, key=str, sequences=(Iterable,))
