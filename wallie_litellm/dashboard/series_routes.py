"""The API's route of what the page's charts show: points over time, and what is marked in them."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from wallie_litellm.dashboard.api_errors import ApiError
from wallie_litellm.dashboard.page_ranges import strict_range
from wallie_litellm.dashboard.series_queries import gather_series
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.usage_ranges import iso
from wallie_litellm.dashboard.view_model import ChartEvent, Range, Series, TimeBucket


class SeriesPoint(BaseModel):
    """What ended from ``start`` on, for ``step_seconds``.

    ``mean_ms`` and ``p95_ms`` are of answers that did not come from a cache, null where there were none. ``failures``
    are failed attempts that their callers did not cause.
    """

    start: str
    attempts: dict[str, int] = Field(description="by provider")
    failures: int
    cost_usd: dict[str, float] = Field(description="by provider, without attempts that have no price")
    mean_ms: float | None
    p95_ms: float | None


class SeriesMark(BaseModel):
    """What is marked in the charts; ``model`` is the one whose breaker it is, empty for all of the provider's."""

    at: str
    kind: str = Field(description="opened or closed, of a breaker; or reload, of the configuration")
    provider: str
    model: str
    reason: str


class SeriesPart(BaseModel):
    """Points from ``since`` to before ``until`` (null: now), those without an attempt included, and marks.

    The first and the last point may be cut by the range's ends. Ranges above two hours are of whole quarters of an
    hour; points of a day or more begin at midnight UTC.
    """

    range: str
    since: str
    until: str | None
    step_seconds: int
    points: list[SeriesPoint] = Field(description="in order of time")
    marks: list[SeriesMark] = Field(description="in order of time; of the last 300 changes of breakers and health")


class ChartSeries(SeriesPart):
    """What the page's charts show, of all providers or of one."""

    provider: str | None


Asked = Annotated[str | None, Query(alias="range", description="1h, 24h (the default), 7d or 30d")]
Since = Annotated[
    str | None, Query(description="instead of range: ISO 8601, Unix seconds, or an age; at most 400 days before until")
]
Until = Annotated[str | None, Query(description="likewise; now unless given")]


def add_series_route(router: APIRouter, service: DashboardService) -> None:
    """Add it to those of the API."""
    tags: list[Any] = ["ledger"]

    @router.get("/series", tags=tags, operation_id="series", summary="What the charts show")
    async def series(
        provider: Annotated[str | None, Query(max_length=200, description="this one alone")] = None,
        chosen: Asked = None,
        since: Since = None,
        until: Until = None,
    ) -> ChartSeries:
        """Attempts, failures, cost and latency (mean and p95) over time; changes of breakers, and reloads."""
        now = time.time()
        wanted = asked_range(chosen, since, until, now, service.zone)
        found = await service.ask(lambda queries: gather_series(queries, wanted, now, provider))
        return ChartSeries(provider=provider, **series_part(wanted, found))


def asked_range(chosen: str | None, since: str | None, until: str | None, now: float, zone: str) -> Range:
    """The range that a program asks for; times without an offset are of ``zone``.

    Raises:
        ApiError: the parameters make no sense.
    """
    try:
        return strict_range(chosen, since, until, now, zone)
    except ValueError as wrong:
        raise ApiError(422, "wallie_bad_request", str(wrong)) from wrong


def series_part(chosen: Range, found: Series) -> dict[str, Any]:
    """The fields of :class:`SeriesPart`."""
    return {
        "range": chosen.name,
        "since": iso(found.since),
        "until": None if found.until is None else iso(found.until),
        "step_seconds": found.step,
        "points": list(map(_point, found.buckets)),
        "marks": list(map(_mark, found.events)),
    }


def _point(one: TimeBucket) -> SeriesPoint:
    return SeriesPoint(
        start=iso(one.start),
        attempts=dict(one.attempts),
        failures=one.failures,
        cost_usd=dict(one.cost_usd),
        mean_ms=one.mean_ms,
        p95_ms=one.p95_ms,
    )


def _mark(one: ChartEvent) -> SeriesMark:
    return SeriesMark(at=iso(one.at), kind=one.kind, provider=one.provider, model=one.model, reason=one.reason)
