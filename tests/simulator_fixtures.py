"""The simulated providers, one set for a directory; every test finds them healed, with empty counts and full limits."""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest
from simulator_support import PROMPT, call_arguments

from wallie_litellm.simulator import SimulatedProviders


@pytest.fixture(autouse=True)
def quiet_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    # Without it LiteLLM blocks its event loop for 23 s per llama stream, trying to download a tokenizer.
    monkeypatch.setattr(litellm, "disable_hf_tokenizer_download", True)


@pytest.fixture(scope="session")
def running_fleet() -> Iterator[SimulatedProviders]:
    with SimulatedProviders() as fleet:
        yield fleet


@pytest.fixture
def fleet(running_fleet: SimulatedProviders) -> SimulatedProviders:
    running_fleet.restore()
    return running_fleet


@pytest.fixture
def chat(fleet: SimulatedProviders) -> Callable[..., Any]:
    def call(name: str, **more: Any) -> Any:
        return litellm.acompletion(**{**call_arguments(fleet, name), "messages": PROMPT, **more})

    return call
