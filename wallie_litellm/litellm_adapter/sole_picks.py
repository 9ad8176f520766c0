"""Groups in which LiteLLM's pick has nothing to choose: its first answer holds for every request.

A pick takes LiteLLM 5 % (1.106) to 15 % (1.110) of a call. What it does besides choosing, such as its filters and the
hooks of the application's callbacks, is known to find nothing to do where a :class:`SolePicks` keeps its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wallie_litellm.litellm_adapter.calls import PLAIN_PARAMETERS, DeploymentCalls
from wallie_litellm.litellm_adapter.inner_router import Deployment, InnerRouter
from wallie_litellm.litellm_adapter.selection import filters_alone

# What a deployment's ``model_info`` may have: with anything else LiteLLM may leave the deployment out, for a team or at
# times for example.
_PLAIN_INFO: Final = frozenset(
    {
        "base_model", "db_model", "id", "input_cost_per_token", "max_input_tokens", "max_output_tokens", "max_tokens",
        "member_auto_router", "mode", "output_cost_per_token", "wallie_provider",
    }
)  # fmt: skip
# Arguments of a request that LiteLLM's pick reads, those that its proxy adds among them.
_READ_BY_PICKS: Final = frozenset({"litellm_metadata", "proxy_server_request", "specific_deployment", "tags"})
_OF_THE_CALLERS_KEY: Final = "user_api_key"  # beginning of what the proxy writes into the metadata: teams, groups


class SolePicks:
    """The picks of one Router that can only be one deployment. They are kept until :meth:`changed` is called."""

    def __init__(self, inner: InnerRouter, calls: DeploymentCalls) -> None:
        self._inner = inner
        self._calls = calls
        self._kept: dict[str, Deployment] = {}  # by group

    def changed(self) -> None:
        """The Router's deployments or settings have changed."""
        self._kept = {}  # another thread may still write into the old one

    def of(self, group: str, request: Mapping[str, Any]) -> Deployment | None:
        """What LiteLLM's pick for ``request`` would be; ``None`` where only LiteLLM can say."""
        kept = self._kept.get(group)
        return kept if kept is not None and filters_alone() and not _is_read(request) else None

    def learn(self, group: str, picked: Deployment) -> Deployment:
        """What LiteLLM has ``picked`` for a request to ``group``: it is kept if it can be no other."""
        kept = self._kept
        if self._is_sole(group, picked):
            kept[group] = picked
        return picked

    def _is_sole(self, group: str, picked: Deployment) -> bool:
        deployments = self._inner.deployments_of(group)
        parameters, info = picked["litellm_params"], picked.get("model_info") or {}
        return (
            self._calls.shuffles_only
            and len(deployments) == 1
            and picked["model_name"] == group  # no wildcard's, and of no other group that LiteLLM has chosen
            and self._inner.alias_target(group) is None
            and parameters.keys() <= PLAIN_PARAMETERS
            and info.keys() <= _PLAIN_INFO
            and deployments[0] == picked  # it has not been replaced meanwhile
        )


def _is_read(request: Mapping[str, Any]) -> bool:
    """Whether the request has something that LiteLLM's pick may go by."""
    if not request.keys().isdisjoint(_READ_BY_PICKS):
        return True
    return any(str(name).startswith(_OF_THE_CALLERS_KEY) for name in request.get("metadata") or ())
