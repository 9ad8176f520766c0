"""The dashboard as an ASGI application, to be mounted at ``/wallie``: security headers, errors, and all routes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wallie_litellm.dashboard.api_errors import ApiError, api_error_response
from wallie_litellm.dashboard.api_routes import api_router
from wallie_litellm.dashboard.auth import AccessDenied, Authenticator
from wallie_litellm.dashboard.html_routes import page_routes
from wallie_litellm.dashboard.ledger_reader import LedgerUnavailable
from wallie_litellm.dashboard.page_responses import PageError, access_denied_response, page_error_response
from wallie_litellm.dashboard.provider_routes import provider_pages
from wallie_litellm.dashboard.request_routes import request_pages
from wallie_litellm.dashboard.service import DashboardService

Metrics = Callable[[str | None], tuple[bytes, str]]  # the metrics for an Accept header, and their content type

LARGEST_BODY: Final = 16_384  # bytes
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


def create_app(service: DashboardService, authenticator: Authenticator, *, metrics: Metrics | None = None) -> FastAPI:
    """The page, its API and, given ``metrics``, Prometheus' metrics, for visitors whom ``authenticator`` admits."""
    app = FastAPI(
        title="Wallie LiteLLM",
        version=version("wallie-litellm"),
        description="The state of a guarded router, and the actions that an operator may take on it.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.include_router(api_router(service, authenticator))
    app.include_router(page_routes(service, authenticator))
    app.include_router(request_pages(service, authenticator))
    app.include_router(provider_pages(service, authenticator))
    if metrics is not None:
        _add_metrics(app, authenticator, metrics)
    _add_error_pages(app)
    app.add_middleware(_SmallBodies)
    app.add_middleware(_SecurityHeaders)
    return app


def _add_error_pages(app: FastAPI) -> None:
    @app.exception_handler(AccessDenied)
    async def access_denied(request: Request, error: AccessDenied) -> Response:
        return api_error_response(error) if _is_for_programs(request) else access_denied_response(request, error)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        if _is_for_programs(request):
            code = {404: "wallie_not_found", 405: "wallie_method_not_allowed"}.get(
                error.status_code, "wallie_bad_request"
            )
            answer = api_error_response(ApiError(error.status_code, code, str(error.detail)))
            answer.headers.update(error.headers or {})
            return answer
        return page_error_response(request, PageError(error.status_code, "problem.not_found"))

    @app.exception_handler(LedgerUnavailable)
    async def closing(request: Request, error: LedgerUnavailable) -> Response:
        return page_error_response(request, PageError(503, "problem.closing"))

    @app.exception_handler(PageError)
    async def page_error(request: Request, error: PageError) -> Response:
        return page_error_response(request, error)


def _add_metrics(app: FastAPI, authenticator: Authenticator, metrics: Metrics) -> None:
    @app.get("/metrics", include_in_schema=False)
    def scrape(request: Request) -> Response:
        authenticator.enter(request)
        body, content_type = metrics(request.headers.get("accept"))
        return Response(body, media_type=content_type)


def _is_for_programs(request: Request) -> bool:
    path = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
    return path.startswith(("/api/", "/metrics"))


class _SmallBodies:
    """Refuses bodies larger than any form or action, before authentication: a client without a token may send them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", scope["method"] not in ("GET", "HEAD")
        while more:
            message = await receive()
            if message["type"] != "http.request":  # the client has disconnected
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > LARGEST_BODY:
                text = f"a body may have {LARGEST_BODY} bytes"
                await api_error_response(ApiError(413, "wallie_too_large", text))(scope, receive, send)
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
    """Adds the headers to every response, errors included. Responses are not cached unless they say otherwise."""

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
