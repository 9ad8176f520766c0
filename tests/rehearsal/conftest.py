"""One fleet for the whole directory; every test finds it healed, empty and without limits in its way."""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest

from wallie_litellm.rehearsal import SimulatedFleet

MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "groq": "groq/llama-3.1-8b-instant",
    "deepseek": "deepseek/deepseek-chat",
}
PROMPT = [{"role": "user", "content": "x" * 40}]


@pytest.fixture(autouse=True)
def quiet_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    # Without it LiteLLM blocks its event loop for 23 s per llama stream, trying to download a tokenizer.
    monkeypatch.setattr(litellm, "disable_hf_tokenizer_download", True)


@pytest.fixture(scope="session")
def running_fleet() -> Iterator[SimulatedFleet]:
    with SimulatedFleet() as fleet:
        yield fleet


@pytest.fixture
def fleet(running_fleet: SimulatedFleet) -> SimulatedFleet:
    for name in running_fleet:
        running_fleet[name].heal()
        running_fleet[name].reset()
    return running_fleet


def call_arguments(fleet: SimulatedFleet, name: str, model: str | None = None) -> dict[str, Any]:
    """Keyword arguments that bring a LiteLLM call to the fleet, without LiteLLM's retries."""
    deployment = {"model_name": "any", "litellm_params": {"model": model or MODELS[name]}}
    return {**fleet.point([deployment])[0]["litellm_params"], "max_retries": 0, "num_retries": 0}


@pytest.fixture
def chat(fleet: SimulatedFleet) -> Callable[..., Any]:
    def call(name: str, **more: Any) -> Any:
        return litellm.acompletion(**{**call_arguments(fleet, name), "messages": PROMPT, **more})

    return call
