"""What a request asks of a provider, and which of these operations are counted in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

CHAT: Final = "chat"
EXECUTE: Final = "execute"  # a call of the application's own, made by ``execute_ai_request(execute=...)``

_OPERATIONS: Final = {
    "acompletion": CHAT,
    "completion": CHAT,
    "aembedding": "embedding",
    "embedding": "embedding",
    "atext_completion": "text_completion",
    "text_completion": "text_completion",
    "aresponses": "responses",
    "responses": "responses",
    "anthropic_messages": "messages",
    "aanthropic_messages": "messages",
}
GENERATING: Final = frozenset({CHAT, "text_completion", "responses", "messages", EXECUTE})  # they answer with text
COUNTED: Final = GENERATING | {"embedding"}  # providers count their tokens; none are estimated for any other


def operation_of(function: object, kwargs: Mapping[str, Any]) -> str:
    """What is asked of the provider, from the Router's method (or LiteLLM's function) that will make the call."""
    generic = kwargs.get("original_generic_function")
    called = str(getattr(generic or function, "__name__", "")).lstrip("_")
    return _OPERATIONS.get(called, called or "call")
