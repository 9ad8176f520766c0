"""A scripted vendor behind routers that record what they see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest
from recording import RecordingBus
from scripted_vendor import ScriptedVendor
from vendor_fixtures import running_vendor, vendor
from wire_scripts import WIRES

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.guard import Guard

__all__ = ["running_vendor", "vendor"]


@pytest.fixture(scope="package", autouse=True)
def quiet_litellm() -> Iterator[None]:
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litellm, "suppress_debug_info", True)
        # Without it LiteLLM blocks its event loop for 23 s per llama stream, trying to download a tokenizer.
        patch.setattr(litellm, "disable_hf_tokenizer_download", True)
        yield


@pytest.fixture
def bus() -> RecordingBus:
    return RecordingBus()


@pytest.fixture
def open_router(vendor: ScriptedVendor, bus: RecordingBus) -> Iterator[Callable[..., Any]]:
    """Routers on the scripted vendor: groups by name, each with its model, and sections of ``wallie:``."""
    made: list[Any] = []

    def make(
        models: dict[str, str],
        fallbacks: list[Any] | None = None,
        parameters: dict[str, Any] | None = None,
        **sections: Any,
    ) -> Any:
        data = {
            "model_list": [_deployment(vendor, group, model, parameters) for group, model in models.items()],
            "router_settings": {"disable_cooldowns": True, "fallbacks": fallbacks or []},
            "wallie": {"ledger": None, "retry": {"max_retries": 0}, **sections},
        }
        config = parse_config(data)
        made.append(build_router(config, guard=Guard(config.wallie, bus=bus)))
        return made[-1]

    yield make
    for router in made:
        router.guard.close()


def _deployment(vendor: ScriptedVendor, group: str, model: str, more: dict[str, Any] | None) -> dict[str, Any]:
    prefix = model.partition("/")[0]
    path = next((wire.path for wire in WIRES.values() if wire.model.startswith(f"{prefix}/")), "/v1")
    parameters = {"model": model, "api_base": vendor.base + path, "api_key": "sk-simulated", **(more or {})}
    return {"model_name": group, "litellm_params": parameters}
