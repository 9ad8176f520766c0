"""Routing strategies, LiteLLM's and one of the application's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from litellm.types.router import CustomRoutingStrategyBase
from support import until

from drop_in.actions import at_once, away_from_minutes_end, chat, times
from drop_in.observation import Facets
from drop_in.row import Action, Row, Stage, deployment
from drop_in.upstream import Fault

TWO: Final = [deployment("m", "a"), deployment("m", "b")]
SLOW_A: Final = {"a": [Fault(delay=0.15)] * 20}
PRICES: Final = [
    deployment("m", "a", "openai/dear-model", input_cost_per_token=0.9, output_cost_per_token=0.9),
    deployment("m", "b", "openai/cheap-model", input_cost_per_token=0.1, output_cost_per_token=0.1),
]
LONG: Final = [{"role": "user", "content": "word " * 800}]


class SecondOnly(CustomRoutingStrategyBase):  # type: ignore[misc] # LiteLLM is not type-checked here
    """Always the deployment of account b."""

    def __init__(self, router: Any) -> None:
        self._router = router

    async def async_get_available_deployment(self, *_: Any, **__: Any) -> Any:
        return self.get_available_deployment()

    def get_available_deployment(self, *_: Any, **__: Any) -> Any:
        return next(entry for entry in self._router.get_model_list() if entry["model_info"]["id"] == "m-b")


def custom(action: Action) -> Action:
    """A routing strategy of the application's own."""

    async def act(stage: Stage) -> Any:
        stage.router.set_custom_routing_strategy(SecondOnly(stage.router))
        return await action(stage)

    return act


def measured(action: Action, judge: Any) -> Action:
    """Calls after each deployment has been measured."""

    async def act(stage: Stage) -> Any:
        await at_once(8, chat())(stage)
        await asyncio.sleep(0.1)  # LiteLLM counts a call after its answer
        stage.upstream.requests.clear()
        await action(stage)
        return Facets(judged=judge(_calls(stage)))

    return act


def beside_another() -> Action:
    """A call while another is under way, and whether they went to different accounts."""

    async def act(stage: Stage) -> Any:
        first = asyncio.create_task(chat()(stage))
        await until(lambda: bool(_calls(stage)))
        await chat()(stage)
        await first
        return Facets(apart=len(_calls(stage)) == 2)

    return act


def _calls(stage: Stage) -> Counter[str]:
    return Counter(request.account for request in stage.upstream.requests)


def after_much_use(action: Action) -> Action:
    """Calls after one deployment has had many tokens."""

    async def act(stage: Stage) -> Any:
        await away_from_minutes_end()
        await chat("m-a", LONG)(stage)
        await asyncio.sleep(0.1)  # LiteLLM counts a call after its answer
        return await action(stage)

    return act


def spread(count: int, action: Action, judge: Any) -> Action:
    """What ``judge`` says of the calls of each account."""

    async def act(stage: Stage) -> Any:
        await at_once(count, action)(stage)
        return Facets(judged=judge(_calls(stage)))

    return act


ROWS: Final = [
    Row(
        "simple-shuffle",
        TWO,
        spread(20, chat(), lambda calls: min(calls["a"], calls["b"]) >= 3),
        {"judged": True},
        settings={"routing_strategy": "simple-shuffle"},
        any_request=True,
    ),
    Row(
        "least-busy",
        TWO,
        beside_another(),
        {"apart": True},
        {"a": [Fault(delay=0.2)], "b": [Fault(delay=0.2)]},
        {"routing_strategy": "least-busy"},
        any_request=True,
    ),
    Row(
        "cost-based-routing",
        PRICES,
        times(4, chat()),
        {"accounts": ["b"] * 4},
        settings={"routing_strategy": "cost-based-routing"},
    ),
    Row(
        "latency-based-routing",
        TWO,
        measured(times(3, chat()), lambda calls: calls == {"b": 3}),
        {"judged": True},
        SLOW_A,
        {"routing_strategy": "latency-based-routing"},
        any_request=True,
    ),
    Row(
        "usage-based-routing-v2",
        TWO,
        after_much_use(times(3, chat())),
        {"accounts": ["a", "b", "b", "b"]},
        settings={"routing_strategy": "usage-based-routing-v2"},
    ),
    Row("a custom routing strategy", TWO, custom(times(4, chat())), {"accounts": ["b"] * 4}),
]
