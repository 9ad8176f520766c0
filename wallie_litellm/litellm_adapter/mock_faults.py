"""LiteLLM's ``mock_testing_*`` arguments: the first attempt of a request fails as stated, without a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import litellm

_FAULTS: Final[Mapping[str, Callable[..., Exception]]] = {
    "mock_testing_fallbacks": litellm.InternalServerError,
    "mock_testing_context_fallbacks": litellm.ContextWindowExceededError,
    "mock_testing_content_policy_fallbacks": litellm.ContentPolicyViolationError,
    "mock_testing_rate_limit_error": litellm.RateLimitError,
}

MOCK_FAULTS: Final = frozenset(_FAULTS)  #: the names of the arguments


def take_mock_fault(arguments: dict[str, Any]) -> Callable[[str], Exception] | None:
    """The fault that a call's arguments ask for, by the group's name; they are taken out."""
    asked = [make for name, make in _FAULTS.items() if arguments.pop(name, None) is True]
    if not asked:
        return None

    def fault(group: str) -> Exception:
        message = f"This is a mock exception for model={group}, to trigger a fallback."
        return asked[0](message=message, model=group, llm_provider="")

    return fault
