"""The statements about failures, fallbacks and changes of state since a time.

All have a beginning: during an outage every request may be a failed attempt, and a row of ``wallie_transitions``. They
are sorted by time, whose index ends the search at that beginning; by id a database may read the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, not_, select

from wallie_litellm.ledger.figures import RecordedFailure, Transition
from wallie_litellm.ledger.schema import BY_CALLER, attempts, transitions

FALLBACK: Final = "fallback"  # a value of ``transitions.type``

_FAILURE: Final = tuple(attempts.c[name] for name in RecordedFailure.__dataclass_fields__)
_CHANGE: Final = tuple(transitions.c[name] for name in Transition.__dataclass_fields__)


def last_failures(since: float) -> Select[Any]:
    """The last failed attempt of each provider, those that the caller caused left out."""
    latest = select(func.max(attempts.c.id)).where(*_failed(since)).group_by(attempts.c.provider)
    return select(*_FAILURE).where(attempts.c.id.in_(latest))


def failures_of(provider: str, since: float, until: float | None, limit: int) -> Select[Any]:
    """The last failed attempts of one provider, the latest first."""
    found = select(*_FAILURE).where(*_failed(since, until), attempts.c.provider == provider)
    return found.order_by(attempts.c.at.desc(), attempts.c.id.desc()).limit(limit)


def failure_kinds(provider: str, since: float, until: float | None, limit: int) -> Select[Any]:
    """How many attempts of one provider failed with each error and status, and the last one's time; most first."""
    kind = attempts.c.error, attempts.c.status_code
    number = func.count()
    failed = *_failed(since, until), attempts.c.provider == provider
    found = select(*kind, number, func.max(attempts.c.at)).where(*failed)
    return found.group_by(*kind).order_by(number.desc()).limit(limit)


def fallback_counts(since: float) -> Select[Any]:
    """From which provider to which model requests went on, and how many; most first."""
    way = transitions.c.provider, transitions.c.after
    number = func.count()
    found = select(*way, number).where(transitions.c.at >= since, transitions.c.type == FALLBACK)
    return found.group_by(*way).order_by(number.desc())


def changes(since: float, until: float | None, kinds: Sequence[str], provider: str | None, limit: int) -> Select[Any]:
    """Changes of these kinds, the latest first."""
    found = select(*_CHANGE).where(transitions.c.at >= since, transitions.c.type.in_(kinds))
    found = found if until is None else found.where(transitions.c.at < until)
    found = found if provider is None else found.where(transitions.c.provider == provider)
    return found.order_by(transitions.c.at.desc(), transitions.c.id.desc()).limit(limit)


def _failed(since: float, until: float | None = None) -> list[ColumnElement[bool]]:
    found = [attempts.c.at >= since, attempts.c.success.is_(False), not_(BY_CALLER)]
    return found if until is None else [*found, attempts.c.at < until]
