"""A deployment of the files that are checked, and the day and the environment of the check."""

from __future__ import annotations

from datetime import date
from typing import Any

TODAY = date(2026, 11, 1)  # 60 days before the end of no model that the tests name
OPENAI = {"OPENAI_API_KEY": "fake"}


def entry(model: str, info: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return {"model_name": "a", "litellm_params": {"model": model, **params}, "model_info": info or {}}
