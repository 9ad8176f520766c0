"""Routers to compare: guarded and bare, from the shipped configuration, each with LiteLLM's hooks to itself."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import litellm
import yaml
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

from wallie_litellm import Guard, WallieRouter
from wallie_litellm.config import RouterConfig, parse_config

CONFIG_FILE = Path(__file__).resolve().parent.parent / "router_config.yaml"
MODEL = "gpt-4o-mini"
FEATURE = "wallie-chat"
ANSWER = "We are open from nine to five, Monday to Friday, and until one on Saturdays."
MESSAGES = [
    {"role": "system", "content": "You answer the customers of a small flower shop, briefly and kindly."},
    {"role": "user", "content": "Hello! I would like to order two dozen tulips. What are your opening hours?"},
]

_SCALE = 10_000  # factor on the shipped limits, so that no request waits
_HOOK_LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "service_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


def roomy_config() -> RouterConfig:
    """The shipped configuration with its limits scaled up."""
    return parse_config(_roomy(), env={})


def _roomy() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(CONFIG_FILE.read_text())
    for limits in data["wallie"]["providers"].values():
        limits.update({name: limit * _SCALE for name, limit in limits.items() if name in ("rpm", "tpm", "rpd")})
    return data


def scoped_config() -> RouterConfig:
    """The same, with limits of the model beside the account's and with limits learned from the vendor's headers."""
    return parse_config(_scoped(), env={})


def everything_config() -> RouterConfig:
    """The same, with everything on that decides where requests go, for the requests of ``FEATURE``."""
    data = _scoped()
    wallie = data["wallie"]
    of_feature = {"first_token": "auto", "hedge": {"after": "p95"}, "cache": "1h", "prompt_cache": True}
    wallie["features"] = {FEATURE: of_feature}
    wallie["breaker"].update({"slow_call": "20s", "ramp": "30s"})
    wallie["routing"] = {
        "order": "latency",
        "warm_prefix": True,
        "tiers": {"small": [MODEL, "claude-sonnet-4"], "large": ["gpt-4o", "claude-sonnet-4"]},
        "auto": {"simple": "small", "medium": "small", "complex": "large"},
    }
    wallie["experiments"] = {"sizes": {"feature": FEATURE, "arms": {"small": 0.5, "large": 0.5}, "metric": "cost"}}
    return parse_config(data, env={})


def _scoped() -> dict[str, Any]:
    data = _roomy()
    openai = data["wallie"]["providers"]["openai"]
    model = {name: limit for name, limit in openai.items() if name in ("rpm", "tpm", "rpd")}
    openai.update({"models": {f"{MODEL}*": model}, "learn": "enforce"})
    return data


def router_arguments(config: RouterConfig, api_base: str | None = None) -> dict[str, Any]:
    """The arguments of both routers. LiteLLM's also takes its retries as one, the guarded router from its config."""
    model_list = copy.deepcopy(config.model_list)
    for deployment in model_list:
        deployment["litellm_params"]["api_key"] = "sk-benchmark"
        if api_base is not None:
            deployment["litellm_params"]["api_base"] = api_base
    fallbacks = [{group: list(members)} for group, members in config.chains.items()]
    settings = {name: config.router_settings[name] for name in ("disable_cooldowns", "timeout")}
    return {"model_list": model_list, "fallbacks": fallbacks, **settings}


class Contender:
    """A router whose LiteLLM hooks are in place during its own turns only.

    LiteLLM's callback lists are global, and every router adds to them: without this, each side would do the
    bookkeeping of all.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        _set_hooks({})
        self.router = build()
        self._hooks = {name: list(getattr(litellm, name)) for name in _HOOK_LISTS}
        _set_hooks({})

    def take_turn(self) -> None:
        """Put this router's hooks, and no others, in place."""
        _set_hooks(self._hooks)

    def close(self) -> None:
        """Take this router out of LiteLLM."""
        if isinstance(self.router, WallieRouter):
            self.router.guard.close()
        self.router.discard()
        _set_hooks({})


def bare(config: RouterConfig, api_base: str | None = None) -> Contender:
    """LiteLLM's own Router."""
    arguments = router_arguments(config, api_base)
    return Contender(lambda: litellm.Router(num_retries=config.wallie.retry.max_retries, **arguments))


def guarded(config: RouterConfig, api_base: str | None = None) -> Contender:
    """A guarded router."""
    arguments = router_arguments(config, api_base)
    return Contender(lambda: WallieRouter(guard=Guard(config.wallie), **arguments))


def direct(config: RouterConfig, api_base: str | None = None) -> Contender:
    """No Router at all: ``litellm.acompletion`` with a deployment's parameters, below which no router can come."""
    arguments = router_arguments(config, api_base)
    return Contender(lambda: _Direct(arguments["model_list"], arguments["timeout"]))


class _Direct:
    """The calls of a Router, made without one."""

    def __init__(self, model_list: list[dict[str, Any]], timeout: float) -> None:
        self._parameters = {entry["model_name"]: entry["litellm_params"] for entry in model_list}
        self._timeout = timeout

    async def acompletion(self, model: str, messages: Any, **arguments: Any) -> Any:
        parameters = self._parameters[model]
        return await litellm.acompletion(**parameters, messages=messages, timeout=self._timeout, **arguments)

    def discard(self) -> None:
        """Nothing to take out of LiteLLM."""


async def background_done() -> None:
    """Wait for LiteLLM's logging of the calls made so far."""
    for _ in range(4):
        await asyncio.sleep(0)
    await GLOBAL_LOGGING_WORKER.flush()


def _set_hooks(hooks: dict[str, list[Any]]) -> None:
    for name in _HOOK_LISTS:
        getattr(litellm, name)[:] = hooks.get(name, [])
