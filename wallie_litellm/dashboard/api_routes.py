"""The API for programs and for the command line, described by its own OpenAPI document."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request, Response
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, StreamingResponse

from wallie_litellm.dashboard.api_errors import ApiError, api_route_class
from wallie_litellm.dashboard.auth import SESSION_COOKIE, Authenticator, Visitor
from wallie_litellm.dashboard.chain_routes import add_chain_route
from wallie_litellm.dashboard.experiment_routes import add_experiment_routes
from wallie_litellm.dashboard.provider_routes import add_provider_route
from wallie_litellm.dashboard.reload_route import add_reload_route
from wallie_litellm.dashboard.request_routes import add_request_routes
from wallie_litellm.dashboard.schemas import (
    Alerts,
    Done,
    ErrorBody,
    Kpis,
    Limits,
    Order,
    Status,
    Usage,
)
from wallie_litellm.dashboard.series_routes import add_series_route
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.source import Action
from wallie_litellm.dashboard.summary_route import add_summary_route
from wallie_litellm.dashboard.switch_routes import add_switch_route
from wallie_litellm.dashboard.usage_ranges import (
    MOST,
    as_asked,
    file_name,
    finite,
    iso,
    parse_time,
    stretch_of,
    usage_of,
)
from wallie_litellm.dashboard.usage_tables import By
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE
from wallie_litellm.dashboard.visitors import operator_of, reason_of, visitor_of
from wallie_litellm.ledger.kpis import measure_kpis
from wallie_litellm.ledger.schema import RECORD_TABLES

T = TypeVar("T")

NAMED: Final = 20  # providers, or models, at most, that an answer about an unknown one lists
LONGEST_MESSAGE: Final = 2000  # characters
_EFFECTS: Final[dict[Action, str]] = {
    "reset_quota": "what was used of its limits is forgotten, and so is any pause",
    "close_circuit": "its circuit is closed and counts anew",
    "open_circuit": "its circuit is forced open until it is closed or released",
    "release_circuit": "its circuit decides by itself again; the next request is a probe if it was forced open",
}
_ACTION_ROUTES: Final[tuple[tuple[str, Action, str], ...]] = (
    ("quota/reset", "reset_quota", "Reset a provider's quota"),
    ("circuit/close", "close_circuit", "Close a provider's circuit"),
    ("circuit/open", "open_circuit", "Force a provider's circuit open"),
    ("circuit/release", "release_circuit", "Release a provider's circuit"),
)
_KINDS: Final = "^(" + "|".join(RECORD_TABLES) + ")$"
# FastAPI would make a validator of every answer that is stated by its model, for each route: one refers to the model.
_ERROR: Final[dict[str, Any]] = {
    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}}}
}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": ErrorBody, "description": "No token, or a wrong one."},
    403: {**_ERROR, "description": "Another site's request, an action without its form token, or no token is set."},
    422: {**_ERROR, "description": "A parameter makes no sense."},
    429: {**_ERROR, "description": "Too many wrong tokens from this address."},
    503: {**_ERROR, "description": "There is no ledger to read, or the dashboard is about to end."},
}
_ACTION_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    404: {**_ERROR, "description": "There is no such provider, model, experiment or switch."},
    409: {**_ERROR, "description": "No actions can be taken here."},
    413: {**_ERROR, "description": "The body is too large."},
}


def api_router(service: DashboardService, authenticator: Authenticator) -> APIRouter:
    """All routes under ``/api``, for visitors whom ``authenticator`` admits."""
    described = [Depends(HTTPBearer(auto_error=False)), Depends(APIKeyCookie(name=SESSION_COOKIE, auto_error=False))]
    router = APIRouter(
        prefix="/api", route_class=api_route_class(authenticator), dependencies=described, responses=_ERRORS
    )
    _add_status(router, service)
    _add_limits(router, service)
    add_summary_route(router, service)
    _add_ledger_routes(router, _LedgerRoutes(service))
    add_request_routes(router, service)
    add_chain_route(router, service)
    add_series_route(router, service)
    add_experiment_routes(router, service, _ACTION_ERRORS)
    add_switch_route(router, service, _ACTION_ERRORS)
    add_reload_route(router, service, _ACTION_ERRORS)
    for path, action, summary in _ACTION_ROUTES:
        _add_action(router, path, _ActionRoute(service, action), summary)
    add_provider_route(router, service)  # after the actions: a provider's name may have slashes, as their paths do
    router.add_api_route("/openapi.json", _openapi, include_in_schema=False)
    return router


def _add_status(router: APIRouter, service: DashboardService) -> None:
    @router.get(
        "/status",
        response_model=Status,
        tags=["status"],
        operation_id="status",
        summary="The present",
    )
    async def status() -> Response:
        """Providers, features, store, sinks and budget at this moment: the same as `guard.status()`."""
        return JSONResponse(finite(dict(await service.status())))


def _add_limits(router: APIRouter, service: DashboardService) -> None:
    @router.get("/limits", response_model=Limits, tags=["status"], operation_id="limits", summary="All limits")
    async def limits() -> Response:
        """Limits as configured, as vendors tell them, in force and used: the same as `guard.limits()`."""
        return JSONResponse(finite(dict(await service.limits())))


def _add_ledger_routes(router: APIRouter, routes: _LedgerRoutes) -> None:
    tags: list[Any] = ["ledger"]
    router.get("/usage", tags=tags, operation_id="usage", summary="Sums over a range")(routes.usage)
    router.get("/alerts", tags=tags, operation_id="alerts", summary="The last alerts")(routes.alerts)
    router.get("/kpis", tags=tags, operation_id="kpis", summary="Key figures")(routes.kpis)
    router.get(
        "/export.csv",
        tags=tags,
        operation_id="export",
        summary="Records as CSV",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )(routes.export_csv)


def _add_action(router: APIRouter, path: str, route: _ActionRoute, summary: str) -> None:
    router.post(
        f"/providers/{{provider:path}}/{path}",
        tags=["actions"],
        operation_id=route.action,
        summary=summary,
        responses=_ACTION_ERRORS,
        description=f"{summary}: {_EFFECTS[route.action]}. On record with who, when and why.",
    )(route.act)
    router.add_api_route(f"/providers/{{provider:path}}/{path}", _only_post, include_in_schema=False)


def _only_post() -> None:
    raise HTTPException(405, headers={"allow": "POST"})


class _LedgerRoutes:
    """Answers from the ledger."""

    def __init__(self, service: DashboardService) -> None:
        self._service = service

    async def usage(
        self,
        by: By = "provider",
        chosen: Annotated[str | None, Query(alias="range", description="1h, 24h (the default), 7d or 30d")] = None,
        since: Annotated[
            str | None, Query(description="instead of range: ISO 8601, Unix seconds, or an age: 24h")
        ] = None,
        until: Annotated[str | None, Query(description="likewise; now unless given")] = None,
        top: Annotated[int, Query(ge=1, le=500, description="the dearest; all others are summed in `rest`")] = MOST,
    ) -> Usage:
        """Attempts, tokens, cost and latency from the ledger, by provider, model, feature, user or the proxy's key."""
        now = time.time()
        zone = self._service.zone
        stretch = as_asked(_parsed(lambda: stretch_of(chosen, since, until, DEFAULT_RANGE, now, zone)), now)
        return await self._service.ask(lambda queries: usage_of(queries, stretch, by, top))

    async def alerts(self, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Alerts:
        """The last alerts: quotas, models without a price, the month's budget."""
        found = await self._service.ask(lambda queries: queries.alerts(limit))
        return Alerts.model_validate({"alerts": [{**asdict(one), "at": iso(one.at)} for one in found]})

    async def kpis(self, since: Annotated[str, Query(description="ISO 8601, Unix seconds, or an age")] = "30d") -> Kpis:
        """The key figures against their targets."""
        begins = _parsed(lambda: parse_time("since", since, time.time(), self._service.zone))
        targets = self._service.config.kpis
        found = await self._service.ask(lambda queries: measure_kpis(queries, targets, begins))
        return Kpis.model_validate({"since": iso(begins), "kpis": [asdict(one) for one in found]})

    async def export_csv(
        self,
        visitor: Annotated[Visitor, Depends(visitor_of)],
        kind: Annotated[
            list[Annotated[str, Query(pattern=_KINDS)]] | None, Query(description="may be repeated")
        ] = None,
        chosen: Annotated[str | None, Query(alias="range", description="1h, 24h (the default), 7d or 30d")] = None,
        since: Annotated[str | None, Query(description="instead of range: ISO 8601, Unix seconds, or an age")] = None,
        until: Annotated[str | None, Query(description="likewise")] = None,
    ) -> Response:
        """The ledger's records as CSV, attempts unless `kind` says otherwise. It goes on record."""
        now = time.time()
        zone = self._service.zone
        stretch = _parsed(lambda: stretch_of(chosen, since, until, DEFAULT_RANGE, now, zone))
        kinds = list(dict.fromkeys(kind or ["attempt"]))
        pieces = await self._service.export("csv", kinds, stretch.since, stretch.until)
        asked_for = stretch.name or f"since {iso(stretch.since)}"
        await self._service.record_export(visitor.actor, f"{', '.join(kinds)}; {asked_for}")
        headers = {"content-disposition": f'attachment; filename="{file_name(stretch, kinds, now)}"'}
        return StreamingResponse(pieces, media_type="text/csv", headers=headers)


class _ActionRoute:
    """One action on a provider, or on one of its models."""

    def __init__(self, service: DashboardService, action: Action) -> None:
        self.action: Final = action
        self._service = service

    async def act(
        self,
        provider: Annotated[str, Path(max_length=200)],
        operator: Annotated[Visitor, Depends(operator_of)],
        order: Annotated[Order | None, Body()] = None,
    ) -> Done:
        """Described by the route."""
        reason = None if order is None else reason_of(order.reason)
        model = (order.model if order is not None else None) or None
        try:
            await self._service.act(self.action, provider, operator.actor, reason, model)
        except ValueError as error:
            described = (await self._service.status())["providers"]
            if provider in described and model is not None:
                unknown = _unknown("model", model, described[provider].get("models", {}))
                raise ApiError(404, "wallie_unknown_model", unknown) from error
            raise ApiError(404, "wallie_unknown_provider", _unknown("provider", provider, described)) from error
        named = provider if model is None else f"{provider} {model}"
        return Done(
            provider=provider,
            model=model,
            action=self.action,
            actor=operator.actor,
            at=iso(time.time()),
            message=f"{named}: {_EFFECTS[self.action]}",
        )


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"unknown {what} {name!r}; known: {', '.join(names[:NAMED])}{more}"[:LONGEST_MESSAGE]


async def _openapi(request: Request) -> Response:
    app: FastAPI = request.app
    # Its paths are those within the application, wherever that is mounted.
    return JSONResponse({**app.openapi(), "servers": [{"url": request.scope.get("root_path") or "/"}]})


def _parsed(parse: Callable[[], T]) -> T:
    """The result of ``parse``.

    Raises:
        ApiError: a parameter makes no sense.
    """
    try:
        return parse()
    except ValueError as error:
        raise ApiError(422, "wallie_bad_request", str(error)) from error
