"""The part that this package takes in LiteLLM's pick: the filter that LiteLLM calls for each pick of a group."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import litellm
from litellm.integrations.custom_logger import CustomLogger

from wallie_litellm.litellm_adapter.kept_contexts import keep_contexts


class Selection(Protocol):
    """The request for which LiteLLM picks a deployment, or calls the one that it has picked."""

    @property
    def group(self) -> str:
        """The model group that was asked for."""

    def keep(self, deployments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of the healthy ``deployments`` that may be picked."""


#: What LiteLLM picks for in this context. Only set while a router of this package picks or calls.
current_selection: ContextVar[Selection | None] = ContextVar("wallie_selection", default=None)


class DeploymentFilter(CustomLogger):  # type: ignore[misc] # LiteLLM is not type-checked here
    """Has the present selection filter the deployments. Picks of any other router pass unchanged."""

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[dict[str, Any]]:
        """LiteLLM's hook, called before its own filters by tags, order and context window."""
        selection = current_selection.get()
        return healthy_deployments if selection is None else selection.keep(healthy_deployments)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any]:
        """LiteLLM's hook before each call: a deployment called by its id is recorded under its group's name."""
        selection = current_selection.get()
        if selection is not None:
            for key in ("metadata", "litellm_metadata"):
                metadata = kwargs.get(key)
                if isinstance(metadata, dict) and metadata.get("model_group") == _id_in(metadata):
                    metadata["model_group"] = selection.group
        return kwargs


def _id_in(metadata: Mapping[str, Any]) -> Any:
    return (metadata.get("model_info") or {}).get("id")


_filter = DeploymentFilter()
_filter_alone = [_filter]
_routers: weakref.WeakSet[Any] = weakref.WeakSet()


def take_part(router: object) -> None:
    """Have LiteLLM call the filter, for as long as ``router`` lives."""
    keep_contexts()
    _routers.add(router)
    weakref.finalize(router, _leave)
    ensure_registered()


def ensure_registered() -> None:
    """Put the filter among LiteLLM's callbacks, if the application has replaced them."""
    if _filter not in litellm.callbacks:
        litellm.callbacks.append(_filter)


def filters_alone() -> bool:
    """Whether the filter is LiteLLM's only callback: another one may filter too, or watch the picks."""
    return bool(litellm.callbacks == _filter_alone)


def _leave() -> None:
    if not _routers and _filter in litellm.callbacks:
        litellm.callbacks.remove(_filter)
