"""The dashboard as an ASGI application, to be mounted at ``/wallie``: security headers, errors, and all routes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wallie_litellm.dashboard.api_routes import ApiError, api_router, problem_response
from wallie_litellm.dashboard.auth import AccessDenied, Authenticator
from wallie_litellm.dashboard.html_routes import PageError, access_denied_response, page_error_response, page_routes
from wallie_litellm.dashboard.service import DashboardService, LedgerUnavailable

#: The metrics for an ``Accept`` header, and their content type.
Metrics = Callable[[str | None], tuple[bytes, str]]

_HEADERS: Final = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


LARGEST_BODY: Final = 16_384  # bytes


def create_app(desk: DashboardService, gate: Authenticator, *, metrics: Metrics | None = None) -> FastAPI:
    """The page, its API and, given ``metrics``, what Prometheus scrapes. ``gate`` lets nobody else in."""
    app = FastAPI(
        title="Wallie LiteLLM",
        version=version("wallie-litellm"),
        description="What a guarded router is doing, and the orders that an operator may give it.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.include_router(api_router(desk, gate))
    app.include_router(page_routes(desk, gate))
    if metrics is not None:
        _add_metrics(app, gate, metrics)

    @app.exception_handler(AccessDenied)
    async def turned_away(request: Request, error: AccessDenied) -> Response:
        return problem_response(error) if _is_for_programs(request) else access_denied_response(request, error)

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        if _is_for_programs(request):
            code = {404: "wallie_not_found", 405: "wallie_method_not_allowed"}.get(
                error.status_code, "wallie_bad_request"
            )
            answer = problem_response(ApiError(error.status_code, code, str(error.detail)))
            answer.headers.update(error.headers or {})
            return answer
        return page_error_response(request, PageError(error.status_code, "problem.not_found"))

    @app.exception_handler(LedgerUnavailable)
    async def closing(request: Request, error: LedgerUnavailable) -> Response:
        return page_error_response(request, PageError(503, "problem.closing"))

    @app.exception_handler(PageError)
    async def told(request: Request, error: PageError) -> Response:
        return page_error_response(request, error)

    app.add_middleware(_SmallBodies)
    app.add_middleware(_SecurityHeaders)
    return app


def _add_metrics(app: FastAPI, gate: Authenticator, metrics: Metrics) -> None:
    @app.get("/metrics", include_in_schema=False)
    def scrape(request: Request) -> Response:
        gate.enter(request)
        body, content_type = metrics(request.headers.get("accept"))
        return Response(body, media_type=content_type)


def _is_for_programs(request: Request) -> bool:
    path = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
    return path.startswith(("/api/", "/metrics"))


class _SmallBodies:
    """Refuses a body that is larger than any form or order, before it is read: whoever sends it may have no token."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", scope["method"] not in ("GET", "HEAD")
        while more:
            message = await receive()
            if message["type"] != "http.request":  # whoever sent it has gone
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > LARGEST_BODY:
                text = f"a body may have {LARGEST_BODY} bytes"
                await problem_response(ApiError(413, "wallie_too_large", text))(scope, receive, send)
                return
        read = False

        async def receive_read() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_read, send)


class _SecurityHeaders:
    """Puts the headers on every answer, errors included. Nothing is stored unless the answer says otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[tuple[bytes, bytes]] = [*message.get("headers", ()), *_HEADERS]
                if not any(name.lower() == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
