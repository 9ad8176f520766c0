"""One provider: its present, its figures of a range, and its failures; as JSON for programs, as a page for people."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse

from wallie_litellm.dashboard.api_errors import ApiError
from wallie_litellm.dashboard.auth import Authenticator
from wallie_litellm.dashboard.ledger_reader import LedgerUnavailable
from wallie_litellm.dashboard.page_responses import PageError, base_of, language_of, page_response, range_asked, zone_of
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.provider_html import render_provider
from wallie_litellm.dashboard.provider_queries import ProviderFigures, gather_provider, is_on_record
from wallie_litellm.dashboard.schemas import ErrorBody, OwnerStatus, UsageRow
from wallie_litellm.dashboard.series_routes import Asked, SeriesPart, Since, Until, asked_range, series_part
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.usage_ranges import finite, iso, usage_row
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE, Range

LONGEST_NAME: Final = 200  # characters


class StateChange(BaseModel):
    """A change of a breaker or of health; ``model`` is the one that it is of, empty for the provider's."""

    at: str
    type: str = Field(description="breaker or health")
    model: str
    before: str
    after: str
    reason: str | None


class ErrorKind(BaseModel):
    """Attempts that failed alike; ``status_code`` is the vendor's, null where it did not answer."""

    error: str | None
    status_code: int | None
    count: int
    last_at: str


class FailedAttempt(BaseModel):
    """A failed attempt, and the request that it was made for; ``model`` is the group that was asked for."""

    at: str
    request_id: str
    model: str
    error: str | None
    status_code: int | None
    latency_ms: float


class ProviderReport(SeriesPart):
    """One provider's page: what it is at present, and its figures of the range."""

    provider: str
    present: OwnerStatus | None = Field(description="as in status; null where this process has not met it")
    total: UsageRow
    models: list[UsageRow]
    changes: list[StateChange] = Field(description="the latest first, 100 at most")
    errors: list[ErrorKind] = Field(description="the most frequent first, 20 at most")
    failures: list[FailedAttempt] = Field(description="the latest first, 20 at most")


def add_provider_route(router: APIRouter, service: DashboardService) -> None:
    """Add the route for programs to those of the API."""
    tags: list[Any] = ["ledger"]

    @router.get(
        "/providers/{provider:path}",  # a name may have a slash
        tags=tags,
        operation_id="provider",
        summary="One provider",
        responses={404: {"model": ErrorBody, "description": "There is no such provider."}},
    )
    async def provider(
        provider: Annotated[str, Path(max_length=LONGEST_NAME)],
        chosen: Asked = None,
        since: Since = None,
        until: Until = None,
    ) -> ProviderReport:
        """What the page of a provider shows: its present, and its figures, charts, changes and failures in a range."""
        now = time.time()
        wanted = asked_range(chosen, since, until, now, service.zone)
        found = await service.ask(lambda queries: gather_provider(queries, provider, wanted, now))
        present = (await service.status())["providers"].get(provider)
        if present is None and not found.total.attempts and not await _is_on_record(service, provider):
            raise ApiError(404, "wallie_unknown_provider", f"no provider {provider!r} is known here, or on record")
        return _report(provider, finite(present), wanted, found)


def provider_pages(service: DashboardService, authenticator: Authenticator) -> APIRouter:
    """The route for people, which is not in the API's description."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    pages = _ProviderPages(service, authenticator)
    router.get("/providers/{name:path}")(pages.page)
    return router


class _ProviderPages:
    def __init__(self, service: DashboardService, authenticator: Authenticator) -> None:
        self._service, self._authenticator = service, authenticator

    async def page(
        self,
        request: Request,
        name: str,
        chosen: str = Query(DEFAULT_RANGE, alias="range"),
        since: str = "",
        until: str = "",
    ) -> Response:
        self._authenticator.enter(request)
        zone = zone_of(request, self._service.config.dashboard.timezone)
        name, range_name = name[:LONGEST_NAME], range_asked(chosen, since, until, zone.name)
        if name not in (await self._service.status())["providers"] and not await _is_on_record(self._service, name):
            raise PageError(404, "problem.not_found")
        language, base = language_of(request), base_of(request)
        panels = await self._service.panels(PanelKey(range_name, language, provider=name, base=base, zone=zone.name))
        whole = render_provider(
            panels.html.decode(), name=name, language=language, base=base, range_name=range_name, zone=zone
        )
        return page_response(whole)


async def _is_on_record(service: DashboardService, name: str) -> bool:
    try:
        return await service.ask(lambda queries: is_on_record(queries, name, time.time()))
    except LedgerUnavailable:
        return False


def _report(name: str, present: Any, chosen: Range, found: ProviderFigures) -> ProviderReport:
    return ProviderReport(
        provider=name,
        present=present,
        total=usage_row(name, found.total, found.requests),
        models=[usage_row(one.model, one, None) for one in found.models],
        changes=[
            StateChange(
                at=iso(one.at), type=one.type, model=one.model, before=one.before, after=one.after, reason=one.reason
            )
            for one in found.changes
        ],
        errors=[
            ErrorKind(error=one.error, status_code=one.status_code, count=one.count, last_at=iso(one.last_at))
            for one in found.kinds
        ],
        failures=[
            FailedAttempt(
                at=iso(one.at),
                request_id=one.request_id,
                model=one.model,
                error=one.error,
                status_code=one.status_code,
                latency_ms=one.latency_ms,
            )
            for one in found.failures
        ],
        **series_part(chosen, found.series),
    )
