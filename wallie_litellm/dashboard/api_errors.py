"""Errors of the API: every answer that is no success has the same shape, and a code for programs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from wallie_litellm.dashboard.auth import AccessDenied, Authenticator
from wallie_litellm.dashboard.ledger_reader import LedgerUnavailable
from wallie_litellm.dashboard.source import ActionRefused


class ApiError(Exception):
    """An answer that says what is wrong. ``retry_after`` is in whole seconds."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


def api_error_response(error: ApiError | AccessDenied) -> JSONResponse:
    """``error`` as an answer."""
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = {"error": {"code": error.code, "message": error.message}}
    return JSONResponse(body, error.status, headers=headers)


def api_route_class(authenticator: Authenticator) -> type[APIRoute]:
    """Routes that admit a visitor before anything of the request is parsed, and answer every error in one shape.

    The request's state has the ``visitor`` and the ``authenticator``.
    """

    class ApiRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_and_explain(request: Request) -> Response:
                try:
                    request.state.visitor = authenticator.enter(request)
                    request.state.authenticator = authenticator
                    return await handle(request)
                except RequestValidationError as error:
                    return api_error_response(ApiError(422, "wallie_bad_request", _explained(error)))
                except HTTPException as error:
                    if error.status_code != 400:
                        raise
                    # FastAPI's word for a body that is not UTF-8, is nested too deeply, or has too long a number.
                    return api_error_response(ApiError(422, "wallie_bad_request", "body: it cannot be read as JSON"))
                except (ApiError, AccessDenied) as error:
                    return api_error_response(error)
                except ActionRefused as error:
                    return api_error_response(ApiError(409, "wallie_read_only", str(error)))
                except LedgerUnavailable as error:
                    return api_error_response(ApiError(503, "wallie_no_ledger", error.problem))

            return handle_and_explain

    return ApiRoute


def _explained(error: RequestValidationError) -> str:
    """What is wrong where, without what was sent: it may be long, or a secret in the wrong place."""
    problems = [
        "body: it is not JSON"
        if one["type"] == "json_invalid"
        else f"{'.'.join(map(str, one['loc'][1:])) or one['loc'][0]}: {one['msg']}"
        for one in error.errors()[:10]
    ]
    return "; ".join(problems)[:2000]
