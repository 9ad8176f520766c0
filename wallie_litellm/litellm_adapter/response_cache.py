"""LiteLLM's response cache, kept to the calls of Routers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import litellm

_MARK: Final = ":router"  # ends the keys of what Routers store
_METADATA: Final = ("metadata", "litellm_metadata")  # where a Router names the model group, by operation


class RouterCache(litellm.Cache):  # type: ignore[misc] # LiteLLM is not type-checked here
    """A response cache that serves and stores what Routers call, and nothing else.

    LiteLLM has one cache for the process, ``litellm.cache``; without this the application's own calls would be
    answered from it too.
    """

    def should_use_cache(self, **kwargs: Any) -> bool:
        """Whether LiteLLM may read or store this call."""
        return _is_routers(kwargs) and bool(super().should_use_cache(**kwargs))

    def get_cache_key(self, **kwargs: Any) -> str:
        """The key of a call; LiteLLM looks embeddings up by it alone, so it says whose they are."""
        key = str(super().get_cache_key(**kwargs))
        return key + _MARK if _is_routers(kwargs) and not key.endswith(_MARK) else key


def _is_routers(kwargs: Mapping[str, Any]) -> bool:
    if str(kwargs.get("cache_key")).endswith(_MARK):
        return True
    given = (kwargs.get(name) for name in _METADATA)
    return any(isinstance(metadata, Mapping) and metadata.get("model_group") for metadata in given)


def use_cache(parameters: Mapping[str, Any]) -> None:
    """Give LiteLLM a response cache with the parameters of its proxy's ``cache_params``, unless it has one."""
    if litellm.cache is None:
        litellm.cache = RouterCache(**parameters)
