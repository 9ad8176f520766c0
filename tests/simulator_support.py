"""Calls of LiteLLM to the simulated providers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wallie_litellm.simulator import SimulatedProviders

SHIPPED = Path(__file__).resolve().parents[1] / "router_config.yaml"
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "groq": "groq/llama-3.1-8b-instant",
    "deepseek": "deepseek/deepseek-chat",
}
PROVIDERS = list(MODELS)
PROMPT = [{"role": "user", "content": "x" * 40}]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def call_arguments(fleet: SimulatedProviders, name: str, model: str | None = None) -> dict[str, Any]:
    """Keyword arguments that bring a LiteLLM call to the fleet, without LiteLLM's retries."""
    deployment = {"model_name": "any", "litellm_params": {"model": model or MODELS[name]}}
    return {**fleet.point([deployment])[0]["litellm_params"], "max_retries": 0, "num_retries": 0}


async def eventually(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for what another thread or process is about to do."""
    for _ in range(int(seconds / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not true within {seconds} s")
