"""Packages that LiteLLM imports for some calls and that a plain installation does not have."""

from __future__ import annotations

from typing import Final

from wallie_litellm.errors import PackageMissing
from wallie_litellm.litellm_adapter.error_evidence import causes_of, modules_of

_LITELLM: Final = "litellm"
# Packages of LiteLLM's proxy; it imports some for streamed messages, Gemini's own calls, and on 1.106 for Responses.
_OF_PROXY: Final = frozenset({"backoff", "fastapi", "mcp", "orjson", "starlette", "uvicorn", "websockets"})


def missing_package(error: BaseException, method: str) -> PackageMissing | None:
    """The error that says what to install, if LiteLLM lacked a package for a call of ``method``."""
    for cause in causes_of(error):
        if isinstance(cause, ModuleNotFoundError) and cause.name and _is_imported_by_litellm(cause):
            name = cause.name.partition(".")[0]
            what = "pip install 'wallie-litellm[proxy]'" if name in _OF_PROXY else f"install the package of {name}"
            return PackageMissing([f"LiteLLM needs {name} for {method}, which is not installed: {what}"])
    return None


def _is_imported_by_litellm(error: ModuleNotFoundError) -> bool:
    """Whether a module of LiteLLM, rather than a handler of the application's, has the import."""
    modules = modules_of(error)
    return bool(modules) and modules[-1].partition(".")[0] == _LITELLM
