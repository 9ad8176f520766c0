"""LiteLLM's count of each deployment's usage per minute, up to 1.108: made for deployments with a limit alone.

The Router counts after each success, for a tenth of a call. What it counts is read of deployments with a limit
(``get_model_group_usage``, the headers ``x-ratelimit-remaining-*``) and by cooldowns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import litellm

_LIMITS: Final = ("rpm", "tpm", "itpm", "otpm")  # as LiteLLM names them, wherever they are stated
_KEPT: Final = 1_000  # deployments, once for each group: with a wildcard, callers invent names


class UsageCount:
    """Stands among LiteLLM's callbacks in the place of one Router's own, as long as its cooldowns are off."""

    def __init__(self, router: Any) -> None:
        self._router = router
        self._limited: dict[tuple[Any, Any], bool] = {}  # by the deployment's id and the group
        self._stands_in = False
        self.changed()

    def changed(self) -> None:
        """Read the Router's deployments and settings anew."""
        self._limited.clear()
        if self._stands_in is not (wanted := bool(self._router.disable_cooldowns)):
            self._stands_in = wanted
            (self._take_place if wanted else self._give_place_back)()

    def discard(self) -> None:
        """Leave LiteLLM's callbacks. Idempotent."""
        litellm.logging_callback_manager.remove_callback_from_all_lists(self.count)

    def _take_place(self) -> None:
        manager = litellm.logging_callback_manager
        manager.remove_callback_from_all_lists(self._router.deployment_callback_on_success)
        manager.remove_callback_from_all_lists(self._router.sync_deployment_callback_on_success)
        manager.add_litellm_async_success_callback(self.count)

    def _give_place_back(self) -> None:
        self.discard()
        manager = litellm.logging_callback_manager
        manager.add_litellm_async_success_callback(self._router.deployment_callback_on_success)
        manager.add_litellm_success_callback(self._router.sync_deployment_callback_on_success)

    async def count(self, kwargs: Mapping[str, Any], response: Any, start_time: Any, end_time: Any) -> None:
        """LiteLLM's callback after a success of any call."""
        called = kwargs.get("litellm_params") or {}
        key = (called.get("model_info") or {}).get("id"), (called.get("metadata") or {}).get("model_group")
        limited = self._limited.get(key)
        if limited is None:
            if len(self._limited) >= _KEPT:
                self._limited.clear()
            self._limited[key] = limited = self._has_limit(*key)
        if limited:
            await self._router.deployment_callback_on_success(kwargs, response, start_time, end_time)

    def _has_limit(self, deployment_id: Any, group: Any) -> bool:
        """Whether the deployment or the price map states a limit. ``False`` for what LiteLLM does not count either."""
        deployment = None if deployment_id is None else self._router.get_deployment(model_id=str(deployment_id))
        if deployment is None or group is None:
            return False
        try:
            info = self._router.get_router_model_info(deployment=deployment, received_model_name=group)
        except Exception:  # noqa: BLE001 # LiteLLM raises plain ValueErrors and others for a model that is not mapped
            return False
        entry = deployment.model_dump()
        sources = (entry, entry["litellm_params"], entry["model_info"], info)
        return any(source.get(name) is not None for source in sources for name in _LIMITS)
