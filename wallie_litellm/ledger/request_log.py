"""Single requests on record, the latest first, and the attempts of one."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, or_, select

from wallie_litellm.ledger.schema import attempts, requests

LONGEST: Final = 6 * 3600.0  # seconds from the start of a request to the end of its last attempt
_SKEW: Final = 5.0  # seconds by which clocks of processes may differ
_TIME_DIGITS: Final = 12  # of an id: milliseconds in hexadecimal digits


class RequestFilter(NamedTuple):
    """Which requests; a name that is empty is any.

    ``provider`` is the one that served, else the last that was tried. ``error`` is a part of the error's text.
    ``before`` is the ``id`` of a row: those that ended before it. ``key`` is the proxy's virtual key.
    """

    since: float
    until: float | None = None
    feature: str = ""
    user: str = ""
    provider: str = ""
    model: str = ""
    error: str = ""
    failed: bool = False
    before: str = ""
    key: str = ""


def latest_requests(wanted: RequestFilter, limit: int) -> Select[Any]:
    """The last ``limit`` requests, the latest first.

    They are sorted by time, whose index ends the search at ``since``; by id a database may read the whole table.
    """
    columns = requests.c
    statement = select(requests).where(columns.at >= wanted.since, *_conditions(wanted))
    return statement.order_by(columns.at.desc(), columns.id.desc()).limit(limit)


def _conditions(wanted: RequestFilter) -> list[ColumnElement[bool]]:
    columns = requests.c
    found = [
        column == value
        for column, value in (
            (columns.feature, wanted.feature),
            (columns.user_id, wanted.user),
            (columns.proxy_key, wanted.key),
            (columns.provider, wanted.provider),
        )
        if value
    ]
    if wanted.model:
        found.append(or_(columns.model == wanted.model, columns.requested == wanted.model))
    if wanted.error:
        found.append(columns.error.icontains(wanted.error, autoescape=True))
    if wanted.failed:
        found.append(columns.success.is_(False))
    if wanted.until is not None:
        found.append(columns.at < wanted.until)
    if wanted.before:
        # Of a row that has been pruned there is no time, and nothing is older than it.
        last = select(columns.at).where(columns.id == wanted.before).scalar_subquery()
        found += [columns.at <= last, or_(columns.at < last, columns.id < wanted.before)]
    return found


def one_request(request_id: str) -> Select[Any]:
    """The request of this id; of several rows, which no request has, the first."""
    since, until = _when(request_id)
    columns = requests.c
    found = select(requests).where(columns.at >= since, columns.at < until, columns.request_id == request_id)
    return found.order_by(columns.id).limit(1)


def attempts_of(request_id: str) -> Select[Any]:
    """Its attempts in the order in which they were made."""
    since, until = _when(request_id)
    columns = attempts.c
    found = select(attempts).where(columns.at >= since, columns.at < until, columns.request_id == request_id)
    return found.order_by(columns.number, columns.id)


def _when(request_id: str) -> tuple[float, float]:
    """Between which times (Unix seconds) a request's records are: its id begins with when it was opened.

    Raises:
        ValueError: that is no request's id.
    """
    try:
        opened = int(request_id[:_TIME_DIGITS], 16) / 1000
    except ValueError:
        raise ValueError(f"found {request_id[:48]!r}, expected a request's id, as x-wallie-request-id has it") from None
    return opened - _SKEW, opened + LONGEST
