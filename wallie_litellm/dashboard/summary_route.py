"""The API's route that says whether callers are hurt, for programs and for ``wallie-litellm status``."""

from __future__ import annotations

import time
from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel, Field

from wallie_litellm.dashboard.formats import Formats
from wallie_litellm.dashboard.impact import sentence
from wallie_litellm.dashboard.recent_traffic import WINDOW, Impact, Trouble
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.translations import translator
from wallie_litellm.dashboard.usage_ranges import iso


class TroubleRow(BaseModel):
    """A provider that does not simply answer; ``since`` is null where that is not on record."""

    provider: str
    kind: str = Field(description="stopped, down, paused or degraded")
    since: str | None
    models: list[str] = Field(description="those that are down, where the provider is only degraded")


class Summary(BaseModel):
    """The present and the last ``window_seconds``. Without a ledger the figures of requests are null.

    ``waiting`` is null where it cannot be known. Requests that their callers ended are not in ``success_rate``.
    """

    sentence: str = Field(examples=["All providers answer; 120 requests in the last five minutes, none failed."])
    name: str | None = Field(description="the installation's, from the configuration")
    version: str
    troubles: list[TroubleRow] = Field(description="the worst first")
    waiting: int | None
    window_seconds: float
    requests: int | None
    failed: int | None
    requests_per_minute: float | None
    success_rate: float | None
    p95_ms: float | None
    fallback_rate: float | None = Field(description="the share of answers that came from a fallback")


def add_summary_route(router: APIRouter, service: DashboardService) -> None:
    """Add it to those of the API."""

    @router.get("/summary", tags=["status"], operation_id="summary", summary="Whether callers are hurt")
    async def summary() -> Summary:
        """One sentence, what is wrong with providers, and the figures of the last five minutes."""
        found = (await service.present()).impact
        found = found if found is not None else Impact(0, (), None, None)
        return _summary(found, service.config.dashboard.name, service.zone)


def _summary(found: Impact, name: str | None, zone: str) -> Summary:
    recent = found.recent
    requests = None if recent is None else recent.requests
    formats, now = Formats("en", zone), time.time()
    return Summary(
        sentence=sentence(found, translator("en"), formats.number, lambda at: formats.minute(at, now)),
        name=name,
        version=version("wallie-litellm"),
        troubles=list(map(_row, found.troubles)),
        waiting=found.waiting,
        window_seconds=WINDOW,
        requests=None if requests is None else requests.requests,
        failed=None if requests is None else requests.failures,
        requests_per_minute=None if recent is None else recent.per_minute,
        success_rate=None if requests is None else requests.success_rate,
        p95_ms=None if requests is None else requests.latency.p95_ms,
        fallback_rate=None if requests is None else requests.fallback_rate,
    )


def _row(one: Trouble) -> TroubleRow:
    since = None if one.since is None else iso(one.since)
    return TroubleRow(provider=one.provider, kind=one.kind, since=since, models=list(one.models))
