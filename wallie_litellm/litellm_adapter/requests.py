"""LiteLLM's requests and deployments: the demand of a call, and what a deployment's model accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import litellm

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.operations import GENERATING
from wallie_litellm.core.token_estimate import estimate

_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def output_limit(params: Mapping[str, Any]) -> int | None:
    """The largest output that these parameters allow in tokens, over all choices; ``None`` when nothing limits it."""
    stated: list[int] = [limit for limit in map(params.get, _OUTPUT_LIMITS) if isinstance(limit, int)]
    if not stated:
        return None
    choices = params.get("n")
    return max(stated) * (choices if isinstance(choices, int) and choices > 1 else 1)


def demand_of(kwargs: Mapping[str, Any], prompt: Any, limit: int | None, operation: str) -> Demand:
    """What a call will use at most; ``operation`` as in :attr:`wallie_litellm.events.Settled.operation`."""
    extra = [text for text in (kwargs.get("system"), kwargs.get("instructions")) if text]
    if extra:
        prompt = [*(prompt if isinstance(prompt, list | tuple) else [prompt]), *extra]
    return estimate(prompt, limit, generates=operation in GENERATING)


def accepts_prefill(deployment: Mapping[str, Any]) -> bool:
    """Whether a deployment's model goes on from the beginning of an answer, by its ``model_info`` or LiteLLM's list."""
    name, params = "supports_assistant_prefill", deployment["litellm_params"]
    stated = (deployment.get("model_info") or {}).get(name)
    if stated is not None:
        return bool(stated)
    try:
        return bool(litellm.get_model_info(params["model"], params.get("custom_llm_provider")).get(name))
    except Exception:  # noqa: BLE001 - LiteLLM does not list the model
        return False
