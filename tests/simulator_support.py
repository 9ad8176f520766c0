"""What several of these test files need."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wallie_litellm.demo.findings import Findings, Scenario
from wallie_litellm.demo.stage import Stage, ask
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


def call_arguments(fleet: SimulatedProviders, name: str, model: str | None = None) -> dict[str, Any]:
    """Keyword arguments that bring a LiteLLM call to the fleet, without LiteLLM's retries."""
    deployment = {"model_name": "any", "litellm_params": {"model": model or MODELS[name]}}
    return {**fleet.point([deployment])[0]["litellm_params"], "max_retries": 0, "num_retries": 0}


async def eventually(true: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for what another thread or process is about to do."""
    for _ in range(int(seconds / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not true within {seconds} s")


def scenario(run: Any, **more: Any) -> Scenario:
    return Scenario(run.__name__, "a story", run, **more)


async def finds_two(stage: Stage, found: Findings) -> None:
    async with stage.router() as router:
        found.same("served by", "openai", (await ask(router, "gpt-4o-mini")).provider)
    found.within("a wait", 1.0, 0.5, 1.5)


async def finds_a_difference(stage: Stage, found: Findings) -> None:
    found.same("this is right", 1, 1)
    found.same("this is wrong", "expected-value", "seen-value")


def children_of(pid: int) -> list[int]:
    """The processes started by any thread of ``pid``."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def runs(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False
