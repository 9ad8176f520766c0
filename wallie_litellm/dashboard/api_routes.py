"""The API for programs and for the command line, described by its own OpenAPI document."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from typing import Annotated, Any, Final
from urllib.parse import unquote

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, StreamingResponse

from wallie_litellm.dashboard.auth import CSRF_HEADER, SESSION_COOKIE, AccessDenied, Authenticator, Visitor
from wallie_litellm.dashboard.guard_source import Action, ActionRefused
from wallie_litellm.dashboard.schemas import Alerts, Done, Failure, Kpis, Reason, Status, Usage
from wallie_litellm.dashboard.service import DashboardService, LedgerUnavailable
from wallie_litellm.dashboard.sessions import clean_name
from wallie_litellm.dashboard.usage_ranges import (
    By,
    as_asked,
    file_name,
    finite,
    iso,
    parse_time,
    stretch_of,
    usage_rows,
)
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE
from wallie_litellm.ledger.kpis import measure_kpis
from wallie_litellm.ledger.schema import RECORD_TABLES

_SAID: Final[dict[Action, str]] = {
    "reset_quota": "what was used of its limits is forgotten, and so is any pause",
    "close_circuit": "its circuit is closed and counts anew",
    "open_circuit": "its circuit is forced open until it is closed or released",
    "release_circuit": "its circuit decides by itself again; the next request is a probe if it was forced open",
}
NAMED: Final = 20  # of the known providers, at most, for who asks for another
_KINDS: Final = "^(" + "|".join(RECORD_TABLES) + ")$"


class ApiError(Exception):
    """An answer that says what is wrong."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


def problem_response(error: ApiError | AccessDenied) -> JSONResponse:
    """``error`` as an answer."""
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = {"error": {"code": error.code, "message": error.message}}
    return JSONResponse(body, error.status, headers=headers)


def api_router(desk: DashboardService, gate: Authenticator) -> APIRouter:
    """All routes under ``/api``. Nobody is answered whom ``gate`` does not let in."""

    async def visitor(request: Request) -> Visitor:
        found: Visitor = request.state.visitor  # whom the route has let in
        return found

    async def operator(
        request: Request,
        x_wallie_actor: Annotated[str | None, Header(description="who gives the order, for the record")] = None,
        csrf: Annotated[
            str | None, Header(alias=CSRF_HEADER, description="with the cookie: the form token of its session")
        ] = None,
    ) -> Visitor:
        found = await visitor(request)
        gate.check_action(request, found, csrf)
        if x_wallie_actor:
            # Clients write what ASCII lacks as in URLs.
            found = replace(found, name=clean_name(unquote(x_wallie_actor)))
        return found

    described = [Depends(HTTPBearer(auto_error=False)), Depends(APIKeyCookie(name=SESSION_COOKIE, auto_error=False))]
    failures: dict[int | str, dict[str, Any]] = {
        401: {"model": Failure, "description": "No token, or a wrong one."},
        403: {
            "model": Failure,
            "description": "Another site's request, an order without its form token, or no token is set.",
        },
        422: {"model": Failure, "description": "A parameter makes no sense."},
        429: {"model": Failure, "description": "Too many wrong tokens from this address."},
        503: {"model": Failure, "description": "There is no ledger to read, or the dashboard is about to end."},
    }
    orders: dict[int | str, dict[str, Any]] = {
        404: {"model": Failure, "description": "There is no such provider."},
        409: {"model": Failure, "description": "Nothing can be ordered from here."},
        413: {"model": Failure, "description": "The body is too large."},
    }
    router = APIRouter(prefix="/api", route_class=_route_class(gate), dependencies=described, responses=failures)
    seen = Depends(visitor)

    @router.get(
        "/status",
        response_model=Status,
        tags=["status"],
        operation_id="status",
        summary="The present",
    )
    async def status() -> Response:
        """Providers, features, store, sinks and budget at this moment: the same as `guard.status()`."""
        return JSONResponse(finite(dict(await desk.status())))

    @router.get("/usage", tags=["ledger"], operation_id="usage", summary="Sums over a range")
    async def usage(
        by: By = "provider",
        chosen: Annotated[str | None, Query(alias="range", description="1h, 24h (the default), 7d or 30d")] = None,
        since: Annotated[
            str | None, Query(description="instead of range: ISO 8601, Unix seconds, or an age: 24h")
        ] = None,
        until: Annotated[str | None, Query(description="likewise; now unless given")] = None,
    ) -> Usage:
        """Attempts, tokens, cost and latency from the ledger, summed by provider, model, feature or user."""
        now = time.time()
        stretch = as_asked(_sensible(lambda: stretch_of(chosen, since, until, DEFAULT_RANGE, now)), now)
        rows = await desk.ask(lambda queries: usage_rows(queries, stretch, by))
        ends = None if stretch.until is None else iso(stretch.until)
        return Usage(range=stretch.name, since=iso(stretch.since), until=ends, by=by, totals=rows)

    @router.get("/alerts", tags=["ledger"], operation_id="alerts", summary="The last alerts")
    async def alerts(limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Alerts:
        """The last alerts: quotas, models without a price, the month's budget."""
        found = await desk.ask(lambda queries: queries.alerts(limit))
        return Alerts.model_validate({"alerts": [{**asdict(one), "at": iso(one.at)} for one in found]})

    @router.get("/kpis", tags=["ledger"], operation_id="kpis", summary="Key figures")
    async def kpis(since: Annotated[str, Query(description="ISO 8601, Unix seconds, or an age")] = "30d") -> Kpis:
        """The key figures against their targets."""
        begins = _sensible(lambda: parse_time("since", since, time.time()))
        found = await desk.ask(lambda queries: measure_kpis(queries, desk.config.kpis, begins))
        return Kpis.model_validate({"since": iso(begins), "kpis": [asdict(one) for one in found]})

    @router.get(
        "/export.csv",
        tags=["ledger"],
        operation_id="export",
        summary="Records as CSV",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def export_csv(
        kind: Annotated[
            list[Annotated[str, Query(pattern=_KINDS)]] | None, Query(description="may be repeated")
        ] = None,
        chosen: Annotated[str | None, Query(alias="range", description="1h, 24h (the default), 7d or 30d")] = None,
        since: Annotated[str | None, Query(description="instead of range: ISO 8601, Unix seconds, or an age")] = None,
        until: Annotated[str | None, Query(description="likewise")] = None,
        who: Visitor = seen,
    ) -> Response:
        """The ledger's records as CSV, attempts unless `kind` says otherwise. It goes on record."""
        now = time.time()
        stretch = _sensible(lambda: stretch_of(chosen, since, until, DEFAULT_RANGE, now))
        kinds = list(dict.fromkeys(kind or ["attempt"]))
        # An answer that has begun can no longer say that the ledger cannot be read.
        await desk.ask(lambda queries: queries.first_record_at())
        pieces = await desk.export("csv", kinds, stretch.since, stretch.until)
        asked_for = stretch.name or f"since {iso(stretch.since)}"
        desk.source.note_export(who.actor, f"{', '.join(kinds)}; {asked_for}")
        headers = {"content-disposition": f'attachment; filename="{file_name(stretch, kinds, now)}"'}
        return StreamingResponse(pieces, media_type="text/csv", headers=headers)

    async def unknown(provider: str) -> str:
        known = sorted((await desk.status())["providers"])
        more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
        return f"unknown provider {provider!r}; known: {', '.join(known[:NAMED])}{more}"[:2000]

    def add_order(path: str, action: Action, summary: str) -> None:
        @router.post(
            f"/providers/{{provider:path}}/{path}",
            tags=["orders"],
            operation_id=action,
            summary=summary,
            responses=orders,
            description=f"{summary}: {_SAID[action]}. On record with who, when and why.",
        )
        async def order(
            provider: Annotated[str, Path(max_length=200)],
            why: Annotated[Reason | None, Body()] = None,
            who: Visitor = Depends(operator),  # noqa: B008 - as FastAPI has it
        ) -> Done:
            reason = "".join(filter(str.isprintable, (why.reason if why is not None else None) or "")).strip()
            try:
                await desk.order(action, provider, who.actor, reason or None)
            except ValueError as error:
                raise ApiError(404, "wallie_unknown_provider", await unknown(provider)) from error
            except ActionRefused as error:
                raise ApiError(409, "wallie_read_only", str(error)) from error
            said = f"{provider}: {_SAID[action]}"
            return Done(provider=provider, action=action, actor=who.actor, at=iso(time.time()), message=said)

    add_order("quota/reset", "reset_quota", "Reset a provider's quota")
    add_order("circuit/close", "close_circuit", "Close a provider's circuit")
    add_order("circuit/open", "open_circuit", "Force a provider's circuit open")
    add_order("circuit/release", "release_circuit", "Release a provider's circuit")

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        app: FastAPI = request.app
        # Its paths are those within the application, wherever that is mounted.
        return JSONResponse({**app.openapi(), "servers": [{"url": request.scope.get("root_path") or "/"}]})

    return router


def _route_class(gate: Authenticator) -> type[APIRoute]:
    """Routes that let nobody in whom ``gate`` does not, and say every error in the same shape."""

    class ApiRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_and_explain(request: Request) -> Response:
                try:
                    request.state.visitor = gate.enter(request)  # before anything that was sent is parsed
                    return await handle(request)
                except RequestValidationError as error:
                    return problem_response(ApiError(422, "wallie_bad_request", _explained(error)))
                except HTTPException as error:
                    if error.status_code != 400:
                        raise
                    # FastAPI's word for a body that is not UTF-8, is nested too deeply, or has too long a number.
                    return problem_response(ApiError(422, "wallie_bad_request", "body: it cannot be read as JSON"))
                except (ApiError, AccessDenied) as error:
                    return problem_response(error)
                except LedgerUnavailable as error:
                    return problem_response(ApiError(503, "wallie_no_ledger", error.problem))

            return handle_and_explain

    return ApiRoute


def _sensible(parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except ValueError as error:
        raise ApiError(422, "wallie_bad_request", str(error)) from error


def _explained(error: RequestValidationError) -> str:
    """What is wrong where, without what was sent: it may be long, or a secret in the wrong place."""
    problems = [
        "body: it is not JSON"
        if one["type"] == "json_invalid"
        else f"{'.'.join(map(str, one['loc'][1:])) or one['loc'][0]}: {one['msg']}"
        for one in error.errors()[:10]
    ]
    return "; ".join(problems)[:2000]
