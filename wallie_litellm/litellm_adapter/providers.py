"""The providers and accounts of a Router's deployments: whose limits, breaker and pauses each of them is under."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import litellm

from wallie_litellm.config.variables import resolved_within
from wallie_litellm.core.destinations import Destination, Destinations, EntryFacts, facts_of
from wallie_litellm.core.provider_names import base_of
from wallie_litellm.litellm_adapter.debug_info import debug_info_suppressed

_VENDORS_KEPT: Final = 4_096  # models whose vendor is not looked up again

Entry = Mapping[str, Any]  # an entry of a Router's ``model_list``


class Providers:
    """The destinations of one Router's deployments, for any thread."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = os.environ if env is None else env
        self._destinations = Destinations()
        self._lock = threading.Lock()

    def learn(self, deployments: Iterable[Entry]) -> None:
        """These are all deployments from now on."""
        listed = [self._read(entry) for entry in deployments]
        with self._lock:
            self._destinations.learn(listed)

    def destination_of(self, deployment: Entry) -> Destination:
        """The destination of one deployment."""
        facts = self._read(deployment)
        with self._lock:
            return self._destinations.of(facts)

    def _read(self, deployment: Entry) -> EntryFacts:
        # LiteLLM's Router has replaced the variables that the file names by their values; the file has not.
        params = resolved_within(_with_credential(deployment["litellm_params"]), self._env)
        model = str(params["model"] or deployment["litellm_params"]["model"])
        return facts_of(deployment, vendor_of(model, params) or model.partition("/")[0], params, self._env)


def _with_credential(params: Entry) -> Entry:
    """The parameters with the values of the credential that they name, where LiteLLM has it."""
    name = params.get("litellm_credential_name")
    if not name:
        return params
    values = next((one.credential_values for one in litellm.credential_list if one.credential_name == name), None)
    if values is None:
        return params
    return {**values, **{key: value for key, value in params.items() if key != "litellm_credential_name"}}


def vendor_of(model: str, params: Entry) -> str | None:
    """LiteLLM's name of the API that it calls."""
    if params.get("custom_llm_provider"):
        return str(params["custom_llm_provider"])
    try:
        return _looked_up_vendor(model, base_of(params) or None)
    except Exception:  # noqa: BLE001 # LiteLLM has many exceptions for an unknown model
        return None


@lru_cache(_VENDORS_KEPT)
def _looked_up_vendor(model: str, base: str | None) -> str:
    with debug_info_suppressed():
        return str(litellm.get_llm_provider(model, api_base=base)[1])
