"""One fleet for the whole directory; every test finds it healed, empty and without limits in its way."""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from simulator_support import PROMPT, SHIPPED, call_arguments

from wallie_litellm.config import parse_config
from wallie_litellm.demo import demo
from wallie_litellm.demo.findings import Scenario
from wallie_litellm.demo.stage import Stage, build_fleet, read_data
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
    for name in running_fleet:
        running_fleet[name].heal()
        running_fleet[name].reset()
    return running_fleet


@pytest.fixture
def chat(fleet: SimulatedProviders) -> Callable[..., Any]:
    def call(name: str, **more: Any) -> Any:
        return litellm.acompletion(**{**call_arguments(fleet, name), "messages": PROMPT, **more})

    return call


@pytest.fixture(scope="session")
def demo_fleet() -> Iterator[SimulatedProviders]:
    path, data = read_data(SHIPPED)
    with build_fleet(parse_config(data, path, env={})) as fleet:
        yield fleet


@pytest.fixture
def stage(demo_fleet: SimulatedProviders, tmp_path: Path) -> Stage:
    path, data = read_data(SHIPPED)
    stage = Stage(demo_fleet, data, path, tmp_path)
    stage.clear()
    return stage


@pytest.fixture
def run(demo_fleet: SimulatedProviders, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """`run_demo` with scenarios of one's own, on the fleet that is running already."""
    monkeypatch.setattr(demo, "build_fleet", lambda _: contextlib.nullcontext(demo_fleet))

    def call(*scenarios: Scenario, serve: bool = False, port: int | None = None) -> tuple[int, str]:
        lines: list[str] = []
        code = demo.run_demo(str(SHIPPED), lines.append, lines.append, scenarios, serve=serve, port=port)
        return code, "\n".join(lines)

    return call
