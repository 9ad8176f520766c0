"""Errors inside an answer whose HTTP status was 200: the status that their code or type stands for."""

from __future__ import annotations

from typing import Any, Final

from wallie_litellm.litellm_adapter.wires.fields import value_of

SERVER_ERROR: Final = 500  # of an error that names neither a status nor a known type
_STATUSES: Final = {
    # https://docs.anthropic.com/en/api/errors
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # https://platform.openai.com/docs/api-reference/responses/object, response.error.code
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "content_policy_violation": 400,
    "model_not_found": 404,
    "vector_store_timeout": 504,
    # https://cloud.google.com/apis/design/errors, google.rpc.Code
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
    "validationException": 400,
    "throttlingException": 429,
    "modelTimeoutException": 408,
    "modelStreamErrorException": 424,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}


def status_in(error: Any) -> int:
    """The HTTP status that an error object stands for, by its code, its status or its type."""
    if isinstance(error, str):
        return _STATUSES.get(error, SERVER_ERROR)
    named = [value_of(error, name) for name in ("code", "status", "type")]
    for value in named:
        if isinstance(value, int | str) and str(value).isdecimal() and 400 <= int(value) < 600:
            return int(value)
    return next((_STATUSES[value] for value in named if isinstance(value, str) and value in _STATUSES), SERVER_ERROR)
