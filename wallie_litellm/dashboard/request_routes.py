"""The log of requests: as JSON for programs, as pages for people. Prompts and answers are not on record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse

from wallie_litellm.dashboard.api_errors import ApiError
from wallie_litellm.dashboard.auth import Authenticator
from wallie_litellm.dashboard.ledger_reader import LedgerUnavailable
from wallie_litellm.dashboard.page_ranges import chosen_range
from wallie_litellm.dashboard.page_responses import PageError, base_of, language_of, page_response, zone_of
from wallie_litellm.dashboard.request_html import render_request, render_requests
from wallie_litellm.dashboard.schemas import ErrorBody
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.usage_ranges import iso, stretch_of
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE
from wallie_litellm.ledger.request_log import RequestFilter

ON_A_PAGE: Final = 50  # requests
LONGEST: Final = 200  # characters of a name

Name = Annotated[str, Query(max_length=LONGEST)]


class RequestLog(BaseModel):
    """The last requests, the latest first."""

    requests: list[dict[str, Any]] = Field(description="rows of wallie_requests, see the ledger's documentation")
    before: str | None = Field(description="for the next page; null where there is none")


class LoggedRequest(BaseModel):
    """One request, with its attempts in order.

    ``request`` is null while it is under way, and of one whose process ended before it did.
    """

    request: dict[str, Any] | None
    attempts: list[dict[str, Any]] = Field(description="rows of wallie_attempts")


def add_request_routes(router: APIRouter, service: DashboardService) -> None:
    """Add the routes for programs to those of the API."""
    tags: list[Any] = ["ledger"]
    routes = _RequestApi(service)
    router.get("/requests", tags=tags, operation_id="requests", summary="The log of requests")(routes.log)
    router.get(
        "/requests/{request_id}",
        tags=tags,
        operation_id="request",
        summary="A request with its attempts",
        responses={404: {"model": ErrorBody, "description": "It is not on record."}},
    )(routes.one)


def request_pages(service: DashboardService, authenticator: Authenticator) -> APIRouter:
    """The routes for people."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    pages = _RequestPages(service, authenticator)
    router.get("/requests")(pages.log)
    router.get("/requests/{request_id}")(pages.one)
    return router


class _RequestApi:
    def __init__(self, service: DashboardService) -> None:
        self._service = service

    async def log(
        self,
        feature: Name = "",
        user: Name = "",
        key: Annotated[str, Query(max_length=LONGEST, description="the name of the proxy's virtual key")] = "",
        provider: Annotated[
            str, Query(max_length=LONGEST, description="the one that served, else the last tried")
        ] = "",
        model: Annotated[str, Query(max_length=LONGEST, description="the group, or the name that was asked for")] = "",
        error: Annotated[str, Query(max_length=LONGEST, description="a part of the error's text")] = "",
        failed: Annotated[bool, Query(description="only those without an answer")] = False,
        before: Annotated[str, Query(max_length=48, description="the last page's `before`")] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = ON_A_PAGE,
        chosen: Annotated[str | None, Query(alias="range", description="1h, 24h (the default), 7d or 30d")] = None,
        since: Annotated[str | None, Query(description="instead of range: ISO 8601, Unix seconds, or an age")] = None,
        until: Annotated[str | None, Query(description="likewise")] = None,
    ) -> RequestLog:
        """The last requests that fit, the latest first, without prompts and answers, which are not on record."""
        try:
            stretch = stretch_of(chosen, since, until, DEFAULT_RANGE, time.time(), self._service.zone)
        except ValueError as wrong:
            raise ApiError(422, "wallie_bad_request", str(wrong)) from wrong
        wanted = RequestFilter(stretch.since, stretch.until, feature, user, provider, model, error, failed, before, key)
        rows = await self._service.ask(lambda queries: queries.latest_requests(wanted, limit))
        return RequestLog(requests=list(map(_timed, rows)), before=rows[-1]["id"] if len(rows) == limit else None)

    async def one(self, request_id: Annotated[str, Path(max_length=48)]) -> LoggedRequest:
        """A request by its id, which the answer has as `x-wallie-request-id`, with its attempts in order."""
        try:
            found = await self._service.ask(lambda queries: queries.request(request_id))
        except ValueError as wrong:
            raise ApiError(422, "wallie_bad_request", f"request_id: {wrong}") from wrong
        if found is None:
            raise ApiError(404, "wallie_unknown_request", f"no request {request_id!r} is on record")
        one, attempts = found
        return LoggedRequest(request=None if one is None else _timed(one), attempts=list(map(_timed, attempts)))


class _RequestPages:
    def __init__(self, service: DashboardService, authenticator: Authenticator) -> None:
        self._service, self._authenticator = service, authenticator

    async def log(self, request: Request) -> Response:
        self._authenticator.enter(request)
        asked = {name: value[:LONGEST].strip() for name, value in request.query_params.items()}
        zone = zone_of(request, self._service.config.dashboard.timezone)
        now = time.time()
        try:
            chosen = chosen_range(asked.get("range"), asked.get("since", ""), asked.get("until", ""), now, zone.name)
        except ValueError as wrong:
            raise PageError(422, "problem.range", reason=str(wrong)) from wrong
        wanted = RequestFilter(
            (now if chosen.until is None else chosen.until) - chosen.seconds,
            chosen.until,
            feature=asked.get("feature", ""),
            user=asked.get("user", ""),
            key=asked.get("key", ""),
            provider=asked.get("provider", ""),
            model=asked.get("model", ""),
            error=asked.get("error", ""),
            failed=asked.get("failed") == "1",
            before=asked.get("before", ""),
        )
        problem, rows = "", []
        try:
            rows = await self._service.ask(lambda queries: queries.latest_requests(wanted, ON_A_PAGE))
        except LedgerUnavailable as error:
            problem = error.problem
        language, base = language_of(request), base_of(request)
        more, named = len(rows) == ON_A_PAGE, chosen.name
        text = render_requests(
            rows, wanted, problem, more=more, language=language, base=base, range_name=named, zone=zone
        )
        return page_response(text)

    async def one(self, request: Request, request_id: str) -> Response:
        self._authenticator.enter(request)
        try:
            found = await self._service.ask(lambda queries: queries.request(request_id))
        except ValueError:
            found = None
        if found is None:
            raise PageError(404, "problem.no_request")
        zone = zone_of(request, self._service.config.dashboard.timezone)
        text = render_request(request_id, *found, language=language_of(request), base=base_of(request), zone=zone)
        return page_response(text)


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "at": iso(row["at"])}
