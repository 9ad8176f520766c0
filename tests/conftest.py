"""Fixtures that reach real LiteLLM over real HTTP: a simulated fleet, and routers pointed at it."""

from __future__ import annotations

import copy
import gc
import itertools
import logging
import math
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
# All servers are on this machine and speak HTTP. Reading the public authorities would take 20 ms for each HTTP client.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("loopback_only.pem"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A run in the background has SIGINT ignored, and every program would inherit that. A handler is not inherited: this
    # process goes on ignoring it, and the programs that the tests start and interrupt find the default.
    signal.signal(signal.SIGINT, lambda *_: None)

from side_by_side import Division, rank
from support import shipped_config
from turns import Turns

from wallie_litellm.config import parse_config
from wallie_litellm.simulator.providers import SimulatedProviders

if TYPE_CHECKING:
    from forked import ForkServer
    from privacy_support import Receivers

    from wallie_litellm.clock import Clock
    from wallie_litellm.guard import Guard
    from wallie_litellm.guard.router import WallieRouter
    from wallie_litellm.telemetry.bus import Bus

UNLIMITED: dict[str, Any] = {"rpm": None, "tpm": None, "rpd": None}
PROVIDERS = ("openai", "anthropic", "gemini", "groq", "deepseek")

RouterMaker = Callable[..., "WallieRouter"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Without looking for garbage: imports make little of it, and millions of objects to look at."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))


MODULES_BETWEEN_SEARCHES = 24
_modules = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_look_through() -> None:
    """What is there before a module's tests stays, and no collection of theirs looks at it.

    Hundreds of tests ask for a collection of their own, which would take a third of a second with all that LiteLLM and
    the tests before them have imported. What is not needed any more is found every few modules: it has connections.
    """
    if next(_modules) % MODULES_BETWEEN_SEARCHES == 0:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For ``--numprocesses auto`` two a processor: tests wait for processes, servers and timers a third of their time.

    For ``--numprocesses logical`` fewer: the rules wait little, and each test process imports and collects for 10 s.
    """
    a_processor = 2 if config.option.numprocesses == "auto" else 1.5
    return math.ceil((os.cpu_count() or 1) * a_processor)


@pytest.hookimpl(optionalhook=True)  # there is no such hook in the processes that run the tests
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Division:
    return Division(config, log)


@pytest.fixture(scope="session")
def running_fleet() -> Iterator[SimulatedProviders]:
    with SimulatedProviders(dict.fromkeys(PROVIDERS, UNLIMITED), in_process=False) as fleet:
        yield fleet


@pytest.fixture
def fleet(running_fleet: SimulatedProviders) -> SimulatedProviders:
    """Five healthy providers without limits of their own, counting from zero."""
    running_fleet.restore()
    return running_fleet


@pytest.fixture
def turns() -> Iterator[Turns]:
    """Judges how long something took; what a busy machine adds does not count."""
    with Turns() as clock:
        yield clock


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Forks proxies of LiteLLM."""
    from proxy_support import proxy_forks

    server = proxy_forks()
    yield server
    server.stop()


@pytest.fixture
def make_router(fleet: SimulatedProviders) -> Iterator[RouterMaker]:
    """Builds routers from the shipped config, with sections of ``wallie:`` replaced by keyword."""
    from wallie_litellm.bootstrap import build_router
    from wallie_litellm.guard import Guard

    logging.getLogger("LiteLLM Router").setLevel(logging.CRITICAL)
    made: list[WallieRouter] = []

    def make(
        *,
        clock: Clock | None = None,
        bus: Bus | None = None,
        guard: Guard | None = None,
        trace_of_caller: Callable[[], Mapping[str, str]] = dict,
        data: dict[str, Any] | None = None,
        arguments: dict[str, Any] | None = None,
        **sections: Any,
    ) -> WallieRouter:
        data = copy.deepcopy(data or shipped_config())
        data["wallie"].update(sections)
        config = parse_config(data)
        router = build_router(
            config,
            guard=guard or Guard(config.wallie, clock=clock, bus=bus, trace_of_caller=trace_of_caller),
            **{"model_list": fleet.point(config.model_list), **(arguments or {})},
        )
        made.append(router)
        return router

    yield make
    for router in made:
        router.guard.close()


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    """A PostHog, a Slack and a Sentry on this machine."""
    from sentry_support import Ingestion
    from slack_support import Webhook

    from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint

    webhook, ingestion = Webhook(), Ingestion()
    with PostHogEndpoint() as endpoint:
        yield endpoint, webhook, ingestion
    webhook.close()
    ingestion.close()
