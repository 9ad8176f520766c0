"""``wallie-litellm demo``: five simulated providers, a router from the file, and the specification's scenarios."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from wallie_litellm.config import parse_config
from wallie_litellm.demo.display import Display, Write, choose_display
from wallie_litellm.demo.findings import Findings, Scenario, ScenarioResult
from wallie_litellm.demo.scenarios import SCENARIOS
from wallie_litellm.demo.stage import CHAT_GROUPS, SMALL_MODELS, Stage, ask, build_providers, read_data
from wallie_litellm.errors import ConfigError

TICK: Final = 0.25  # seconds between two refreshes of the live display
_LITELLM_LOGGERS: Final = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


def run_demo(
    config: str | None,
    write: Write,
    scenarios: Sequence[Scenario] = SCENARIOS,
    *,
    serve: bool = False,
    port: int | None = None,
) -> bool:
    """Play ``scenarios`` and print the table; returns whether everything seen is as expected.

    With ``serve`` the dashboard is served over what they have left, until Ctrl-C: on ``port``, or on 4100 or any free
    one where none is given.

    Raises:
        ConfigError: the file cannot be used, or a package that the demo needs is not installed.
    """
    path, data = read_data(config)
    if find_spec("posthog") is None:
        raise ConfigError(["the demo needs PostHog's SDK, which is not installed: pip install 'wallie-litellm[demo]'"])
    display = choose_display(write)
    write(f"Starting the simulated providers for {path} ...")
    with (
        build_providers(parse_config(data, path, env={})) as providers,
        TemporaryDirectory(prefix="wallie-demo-") as folder,
    ):
        quiet_litellm()
        started = time.monotonic()
        stage = Stage(providers, data, path, Path(folder), display.say)
        with display:
            results = asyncio.run(play(scenarios, stage, display))
        display.table(results)
        off, total = sum(result.differing for result in results), sum(len(result.rows) for result in results)
        outcome = f"{off} of {total} differ." if off else f"All {total} as expected."
        write(f"{outcome} {time.monotonic() - started:.0f} s.")
        if serve:
            _serve(stage, write, port)
    return bool(results) and all(result.ok for result in results)


def _serve(stage: Stage, write: Write, port: int | None) -> None:
    """Serve the dashboard until Ctrl-C, which is the usual end and no failure."""
    try:
        from wallie_litellm.demo.serving import serve_demo

        with suppress(KeyboardInterrupt):
            asyncio.run(serve_demo(stage, write, port))
    except ImportError as error:
        write(f"no dashboard: {error.name} is not installed; pip install 'wallie-litellm[demo]'")
    except ConfigError as error:
        write(f"no dashboard: {'; '.join(error.problems)}")


def quiet_litellm() -> None:
    """Import LiteLLM, without a download, and keep its own remarks out of the way."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    for name in _LITELLM_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # LiteLLM leaves a coroutine behind when a call is cancelled on its way through its thread pool.
    warnings.filterwarnings(
        "ignore", r"coroutine '\w*(LLM|Completion|Handler)\w*\..*' was never awaited", RuntimeWarning
    )


async def play(scenarios: Sequence[Scenario], stage: Stage, display: Display) -> list[ScenarioResult]:
    """Play one scenario after the other, each with fresh routers and healed providers."""
    import litellm

    results = []
    try:
        display.say("Warming up: one request to each model group.")
        await _warm_up(stage)
        async with _refreshing(stage, display):
            for number, scenario in enumerate(scenarios, 1):
                display.begin(number, len(scenarios), scenario)
                results.append(await _play_one(scenario, stage))
                display.end(number, len(scenarios), results[-1])
    finally:
        await litellm.close_litellm_async_clients()
    return results


async def _warm_up(stage: Stage) -> None:
    """LiteLLM loads code with a provider's first request, and so does the provider: that would distort the figures."""
    for models, groups in (({}, CHAT_GROUPS), (SMALL_MODELS, tuple(SMALL_MODELS))):
        async with stage.router(models) as router:
            for group in groups:
                with suppress(Exception):  # the scenarios meet it too, and put it into the table
                    await ask(router, group)
    stage.clear()


async def _play_one(scenario: Scenario, stage: Stage) -> ScenarioResult:
    findings = Findings()
    started = time.monotonic()
    try:
        async with asyncio.timeout(scenario.time_limit):
            await scenario.run(stage, findings)
    except Exception as error:  # noqa: BLE001 - a scenario that breaks is a finding, not a traceback
        findings.note("played to the end", "yes", f"{type(error).__name__}: {error}", ok=False)
    seconds = time.monotonic() - started
    stage.clear()
    return ScenarioResult(scenario, tuple(findings.rows), seconds)


@asynccontextmanager
async def _refreshing(stage: Stage, display: Display) -> AsyncIterator[None]:
    """Meanwhile, the display receives the providers' status several times a second."""

    async def show() -> None:
        while True:
            display.tick(stage.status())
            await asyncio.sleep(TICK)

    task = asyncio.create_task(show())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
