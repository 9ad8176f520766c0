"""The demo's providers, a stage over them, and the demo played with a test's own scenarios."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulator_fixtures import fleet, quiet_litellm, running_fleet
from simulator_support import SHIPPED

from wallie_litellm.cli.exits import exit_code
from wallie_litellm.config import parse_config
from wallie_litellm.demo import demo
from wallie_litellm.demo.findings import Scenario
from wallie_litellm.demo.stage import Stage, build_providers, read_data
from wallie_litellm.simulator import SimulatedProviders

__all__ = ["fleet", "quiet_litellm", "running_fleet"]


@pytest.fixture(scope="session")
def demo_providers() -> Iterator[SimulatedProviders]:
    path, data = read_data(SHIPPED)
    with build_providers(parse_config(data, path, env={})) as providers:
        yield providers


@pytest.fixture
def stage(demo_providers: SimulatedProviders, tmp_path: Path) -> Stage:
    path, data = read_data(SHIPPED)
    stage = Stage(demo_providers, data, path, tmp_path)
    stage.clear()
    return stage


@pytest.fixture
def run(demo_providers: SimulatedProviders, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """``run_demo`` with a test's own scenarios, on the providers that run already; its exit code and its lines."""
    monkeypatch.setattr(demo, "build_providers", lambda _: contextlib.nullcontext(demo_providers))

    def call(*scenarios: Scenario, serve: bool = False, port: int | None = None) -> tuple[int, str]:
        lines: list[str] = []
        code = exit_code(
            lambda: demo.run_demo(str(SHIPPED), lines.append, scenarios, serve=serve, port=port), lines.append
        )
        return code, "\n".join(lines)

    return call
