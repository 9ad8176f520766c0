"""The example without keys: simulated providers, and a simulated PostHog, all on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import FastAPI, HTTPException

from wallie_litellm.simulator.posthog_endpoint import PROJECT_KEY, PostHogEndpoint
from wallie_litellm.simulator.providers import SimulatedProviders

VENDORS: Final = ("openai", "anthropic", "gemini", "groq")
LATENCY: Final = 0.4  # seconds before an answer begins
CACHED: Final = 60  # tokens of each prompt that the vendor's cache has


@contextmanager
def simulated() -> Iterator[tuple[SimulatedProviders, dict[str, str]]]:
    """Providers that answer, and the environment that telemetry takes."""
    answers = {
        name: {
            "text": f"This is the simulated {name}: we open at 7, and will gladly bake that for you by tomorrow.",
            "latency": LATENCY,
            "cached_tokens": CACHED,
        }
        for name in VENDORS
    }
    with SimulatedProviders(answers, in_process=False) as providers, PostHogEndpoint() as posthog:
        yield providers, {"POSTHOG_API_KEY": PROJECT_KEY, "POSTHOG_HOST": posthog.url}


def add_outages(app: FastAPI, providers: SimulatedProviders) -> None:
    """Buttons of the page: a provider that fails, and one that is back."""

    def provider_of(name: str) -> Any:
        if name not in VENDORS:
            raise HTTPException(404, f"no such provider: choose one of {', '.join(VENDORS)}")
        return providers[name]

    @app.post("/simulation/{name}/outage")
    def outage(name: str) -> dict[str, str]:
        provider_of(name).fail(503)
        return {name: "down"}

    @app.post("/simulation/{name}/recovery")
    def recovery(name: str) -> dict[str, str]:
        provider_of(name).heal()
        return {name: "up"}

    @app.get("/simulation")
    def providers_played() -> list[str]:
        return list(VENDORS)
