"""The checks of features' caches: where answers are kept, and whether what the file says has any effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wallie_litellm.check.models import DeploymentFacts
from wallie_litellm.check.packages import is_installed
from wallie_litellm.config import RouterConfig


def cache_problems(config: RouterConfig, env: Mapping[str, str]) -> Iterator[str]:
    """Caches of LiteLLM's that hold no exact answers, where a feature wants these."""
    features = _with_cache(config)
    if not features:
        return
    from wallie_litellm.litellm_adapter.answer_store import TYPES, type_of  # late: LiteLLM takes seconds to import
    from wallie_litellm.litellm_adapter.router_arguments import answer_parameters

    kind = type_of(answer_parameters(config, env))
    if kind not in TYPES:
        yield (
            f"litellm_settings.cache_params.type: found {kind!r}, expected one of {', '.join(TYPES)}, for "
            f"wallie.features.{features[0]}.cache: answers are found by their exact question"
        )
    elif kind == "redis" and not is_installed("redis"):
        yield f"wallie.features.{features[0]}.cache: Redis' package is missing; install wallie-litellm[redis]"


def cache_notes(config: RouterConfig, deployments: Sequence[DeploymentFacts]) -> Iterator[str]:
    """Caches that have no effect, as the file is."""
    warm = sorted({one.group for one in deployments if _temperature(one.params)})
    for name in _with_cache(config):
        settings = config.wallie.features[name].cache
        if warm and settings is not None and not settings.any_temperature:
            yield (
                f"wallie.features.{name}.cache: answers of {', '.join(warm)} are not kept, as their temperature is "
                "above 0; any_temperature: true keeps them"
            )
    marked = [name for name, feature in config.wallie.features.items() if feature.prompt_cache is not None]
    if marked and not any(_goes_by_marks(one) for one in deployments):
        yield (
            f"wallie.features.{marked[0]}.prompt_cache: marks are sent to Claude's and Nova's models only, of which "
            "the file has none; other vendors keep prompts by themselves"
        )


def _with_cache(config: RouterConfig) -> list[str]:
    return [name for name, feature in config.wallie.features.items() if feature.cache is not None]


def _temperature(params: Mapping[str, Any]) -> bool:
    return bool(params.get("temperature"))


def _goes_by_marks(deployment: DeploymentFacts) -> bool:
    from wallie_litellm.litellm_adapter.prompt_marks import goes_by_marks  # late, as above

    return goes_by_marks({"litellm_params": deployment.params, "model_info": deployment.info})
