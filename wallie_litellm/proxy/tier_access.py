"""Which of the proxy's keys may use a tier.

A key that lists a tier's name may use all its groups. LiteLLM knows the name as an alias of the first group: a key that
lists that one may ask for the tier too, and is then held to what LiteLLM's check of fallbacks lets it use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litellm.proxy.auth.fallback_model_access import is_model_authorized_for_token

from wallie_litellm.errors import TierForbidden


async def _lists(key: Any, name: str, router: Any) -> bool:
    """Whether a key, its team and its project allow ``name``; without a ``router`` it is not taken for an alias."""
    return bool(await is_model_authorized_for_token(model=name, valid_token=key, llm_router=router))


async def is_granted(key: Any, tier: str, group: str, router: Any) -> bool:
    """Whether a request for a ``tier`` may go to all its groups, or else to ``group``, which is asked first.

    Raises:
        TierForbidden: to neither.
    """
    if key is None or await _lists(key, tier, None):
        return True
    if await _lists(key, group, router):
        return False
    raise TierForbidden(f"This key may not use the tier {tier!r}: add it to the key's models.")


async def may_use(key: Any, name: str, group: str, router: Any) -> bool:
    """Whether a request may go to ``name``, a tier or a ``group``."""
    return key is None or await _lists(key, name, None) or await _lists(key, group, router)


def key_of(arguments: Mapping[str, Any]) -> Any:
    """The key of the request behind a call; ``None`` for the proxy's own, such as its health checks."""
    for place in ("metadata", "litellm_metadata"):
        found = arguments.get(place)
        if isinstance(found, Mapping) and found.get("user_api_key_auth") is not None:
            return found["user_api_key_auth"]
    return None
