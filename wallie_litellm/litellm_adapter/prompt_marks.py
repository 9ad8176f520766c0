"""The marks by which vendors keep the beginnings of prompts: LiteLLM's ``cache_control_injection_points``.

LiteLLM turns a point into the mark of the vendor's own wire (1.106 to 1.110):

- Anthropic's, and Claude's at Vertex, OpenRouter and Databricks, a ``cache_control`` on the block;
- Claude's and Nova's at Bedrock, a ``cachePoint``;
- none at Groq, DeepSeek and Mistral; OpenAI and Azure, which keep prompts by themselves, would be sent a field that is
  not of their API; and for Gemini LiteLLM would first make a cache of its own there, which is billed by the hour.

So only the first two are sent points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from wallie_litellm.litellm_adapter.providers import vendor_of

POINTS: Final = "cache_control_injection_points"
#: Operations whose messages LiteLLM marks.
MARKED: Final = frozenset({"chat", "messages"})
_MODELS_KEPT: Final = 1_024  # whose answer is not looked up again


def mark_prompt(
    arguments: dict[str, Any], deployment: Mapping[str, Any], points: Sequence[Mapping[str, Any]], operation: str
) -> None:
    """Have LiteLLM mark the prompt at ``points``, where the vendor uses marks and neither side has any of its own."""
    parameters = deployment["litellm_params"]
    if operation not in MARKED or arguments.get(POINTS) or parameters.get(POINTS):
        return
    if goes_by_marks(deployment):
        arguments[POINTS] = [dict(point) for point in points]


def goes_by_marks(deployment: Mapping[str, Any]) -> bool:
    """Whether the vendor of a deployment keeps what is marked, and is sent marks by LiteLLM."""
    parameters = deployment["litellm_params"]
    base = str((deployment.get("model_info") or {}).get("base_model") or "")
    return _uses_marks(str(parameters["model"]), base, vendor_of(parameters["model"], parameters))


@lru_cache(_MODELS_KEPT)
def _uses_marks(model: str, base: str, vendor: str | None) -> bool:
    names = f"{model} {base}".lower()
    if vendor == "anthropic" or "claude" in names:
        return True
    return vendor in ("bedrock", "bedrock_converse") and "nova" in names
