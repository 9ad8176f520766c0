"""How each system is configured: as its documentation recommends, with the same deadline, retries and fallback.

A *group* is a primary with its fallback. Every scene of every repeat has a group of its own, so that no breaker,
cooldown or count of one reaches another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.reliability.faults import WIDE

DEADLINE: Final = 30.0  # seconds: what a caller waits at most; later, or never, is a hang
TIMEOUT: Final = 8.0  # seconds of one attempt, so that three attempts and the fallback fit into the deadline
RETRIES: Final = 2  # after the first attempt
FIRST_TOKEN: Final = 2.0  # seconds to the first content, where a system can bound that
PATIENCE: Final = 3.0  # seconds to wait for room at the primary, where a system can wait
COOLDOWN: Final = 10.0  # seconds for which a failing provider is left alone, where a system can do that
FAILS: Final = 5  # failures after which it is
FEATURE: Final = "benchmark"
MODEL: Final = "gpt-4o-mini"
KEY: Final = "sk-simulated"


@dataclass(frozen=True)
class Group:
    """A primary with its fallback, as a system's configuration has them."""

    name: str
    primary_url: str
    fallback_url: str
    model: str = MODEL  # the name on the wire
    fallback_model: str = MODEL
    timeout: float = TIMEOUT
    first_token: float = FIRST_TOKEN
    limits: Mapping[str, int] = field(default_factory=dict)
    fallback_limits: Mapping[str, int] = field(default_factory=lambda: WIDE)

    @property
    def fallback(self) -> str:
        """The fallback's name."""
        return f"{self.name}-fallback"

    def members(self) -> Iterable[tuple[str, str, str, Mapping[str, int]]]:
        """Name, address, model and limits of both."""
        yield self.name, self.primary_url, self.model, self.limits
        yield self.fallback, self.fallback_url, self.fallback_model, self.fallback_limits


def litellm_bare(groups: Iterable[Group]) -> dict[str, Any]:
    """Arguments of LiteLLM's Router: deployments, retries, timeouts, fallbacks."""
    groups = list(groups)
    deployments = [
        {"model_name": name, "litellm_params": _parameters(url, model) | {"timeout": group.timeout}}
        for group in groups
        for name, url, model, _ in group.members()
    ]
    chains = [{group.name: [group.fallback]} for group in groups]
    return {
        "model_list": deployments,
        "num_retries": RETRIES,
        "timeout": DEADLINE,
        "fallbacks": chains,
        "context_window_fallbacks": chains,
    }


def litellm_limits(groups: Iterable[Group]) -> dict[str, Any]:
    """The same with what LiteLLM's documentation has for limits, cooldowns and first tokens.

    Not ``usage-based-routing-v2``: it counts in the same counters as ``enforce_model_rate_limits``, so that with both
    each call counts twice; and its documentation recommends the other, ``simple-shuffle``. No retries of 429s: its own
    limits answer with a Retry-After of a minute, which a retry would wait for, and there is a fallback.
    """
    groups = list(groups)
    arguments = litellm_bare(groups)
    members = [(group, limits) for group in groups for *_, limits in group.members()]
    for deployment, (group, limits) in zip(arguments["model_list"], members, strict=True):
        deployment["litellm_params"] |= {**limits, "stream_timeout": group.first_token}
    return arguments | {
        "optional_pre_call_checks": ["enforce_model_rate_limits"],
        "allowed_fails": FAILS,
        "cooldown_time": COOLDOWN,
        "retry_policy": {
            "TimeoutErrorRetries": RETRIES,
            "RateLimitErrorRetries": 0,
            "InternalServerErrorRetries": RETRIES,
        },
        "enable_mid_stream_fallback_continuation": True,
    }


def litellm_proxy(groups: Iterable[Group]) -> dict[str, Any]:
    """The configuration file of LiteLLM's proxy, with the same options."""
    arguments = litellm_limits(groups)
    return {"model_list": arguments.pop("model_list"), "router_settings": arguments}


def wallie(groups: Iterable[Group], folder: Path) -> dict[str, Any]:
    """The configuration file of ours, for library and proxy."""
    groups = list(groups)
    deployments, providers = [], {}
    for group in groups:
        for name, url, model, limits in group.members():
            parameters = _parameters(url, model) | {"timeout": group.timeout}
            deployments.append(
                {"model_name": name, "litellm_params": parameters, "model_info": {"wallie_provider": name}}
            )
            providers[name] = {**limits, "learn": "enforce", "first_token": group.first_token}
    chains = [{group.name: [group.fallback]} for group in groups]
    return {
        "model_list": deployments,
        "router_settings": {
            "timeout": DEADLINE,
            "fallbacks": chains,
            "context_window_fallbacks": chains,
            "disable_cooldowns": True,
        },
        "litellm_settings": {"callbacks": "callbacks.wallie.handler"},
        "wallie": {
            "providers": providers,
            "admission": {"max_wait": 20.0, "patience": PATIENCE},
            "breaker": {"failures": FAILS, "open_for": COOLDOWN, "max_open_for": COOLDOWN},
            "retry": {"max_retries": RETRIES},
            "features": {FEATURE: {"stream_recovery": "hold"}},
            "ledger": {"url": f"sqlite:///{folder / 'wallie.db'}"},
            "telemetry": {"spool": str(folder / "spool")},
        },
    }


def portkey(group: Group) -> dict[str, Any]:
    """The configuration that Portkey's gateway takes in a header of each request."""
    primary, fallback = (
        {"provider": "openai", "api_key": KEY, "custom_host": url, "override_params": {"model": model}}
        for _, url, model, _ in group.members()
    )
    retry = {"attempts": RETRIES, "on_status_codes": [429, 500, 502, 503, 504], "use_retry_after_header": True}
    return {
        "strategy": {"mode": "fallback"},
        "request_timeout": round(group.timeout * 1000),
        "targets": [primary | {"retry": retry}, fallback],
    }


def _parameters(url: str, model: str) -> dict[str, Any]:
    return {"model": f"openai/{model}", "api_base": url, "api_key": KEY}
