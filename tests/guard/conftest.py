from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_clock import FakeClock
from recording import RecordingBus
from vendor_fixtures import running_upstream, running_vendor, upstream, vendor

from wallie_litellm.config import WallieConfig
from wallie_litellm.guard import Guard
from wallie_litellm.guard.router_view import Pricer, RouterView, chains_of, tokens_only

__all__ = ["running_upstream", "running_vendor", "upstream", "vendor"]

# Group names stand for their one provider: "o" is served by openai, and so on.
SERVED_BY = {"o": ["openai"], "a": ["anthropic"], "g": ["gemini"], "both": ["openai", "anthropic"]}
NO_LIMITS: dict[str, dict[str, Any]] = {name: {} for name in ("anthropic", "gemini", "groq", "deepseek")}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bus() -> RecordingBus:
    return RecordingBus()


@pytest.fixture
def make_guard(clock: FakeClock, bus: RecordingBus) -> Iterator[Callable[..., Guard]]:
    """Builds guards whose openai takes 60 tokens, one a second; sections of ``wallie:`` are given by keyword."""
    made: list[Guard] = []

    def make(
        providers: dict[str, Any] | None = None,
        chains: dict[str, list[str]] | None = None,
        price: Pricer = tokens_only,
        **wallie: Any,
    ) -> Guard:
        limits = {**NO_LIMITS, "openai": {"tpm": 60}, **(providers or {})}
        config = WallieConfig.model_validate({"providers": limits, **wallie})
        served = {"o": ["a", "g"]} if chains is None else chains
        view = RouterView(chains_of(served), lambda group: SERVED_BY.get(group, ()), price)
        guard = Guard(config, clock=clock, bus=bus, view=view)
        made.append(guard)
        return guard

    yield make
    for guard in made:
        guard.close()
