"""Names of what LiteLLM keeps for the whole process."""

from __future__ import annotations

from typing import Final

LISTS: Final = (
    "callbacks",
    "input_callback",
    "service_callback",
    "success_callback",
    "failure_callback",
    "_async_success_callback",
    "_async_failure_callback",
)  # LiteLLM's lists of callbacks
