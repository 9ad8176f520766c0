"""Waiting rate limits, circuit breakers and fallback chains for LiteLLM.

::

    from wallie_litellm import build_router, execute_ai_request

    router = build_router("router_config.yaml")
    result = await execute_ai_request(router, model="gpt-4o-mini", messages=[...], feature="wallie-chat")

The parts, each importing only those below it:

``cli``              the command line
``demo``             failures and limits, shown on simulated providers
``rehearse``         one's own configuration, on simulated providers and simulated time
``proxy``            the guard inside LiteLLM's proxy
``dashboard``        the web page and its API
``bootstrap``        from a configuration to a guard and a router
``check``            what a configuration asks for, checked before a start
``ledger``           every attempt and request in SQLite or PostgreSQL
``guard``            a request's path
``telemetry``        the event bus and its sinks
``limiter``          limits, queues and breakers, in this process or shared through Redis
``litellm_adapter``  what LiteLLM's objects look like
``config``           ``router_config.yaml``
``events``           what has happened, as frozen facts
``core``             the arithmetic, without input or output
``clock``            time and timers
``errors``           every error this package raises
``simulator``        simulated providers and receivers on this machine
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wallie_litellm.bootstrap import build_router
    from wallie_litellm.config import RouterConfig, WallieConfig, load_config
    from wallie_litellm.errors import (
        BudgetExhausted,
        ChainExhausted,
        CircuitOpen,
        ConfigError,
        DeadlineExceeded,
        MemberFailure,
        RateLimited,
        Refused,
        RequestTooLarge,
        WallieError,
    )
    from wallie_litellm.events import Settled
    from wallie_litellm.guard import Guard
    from wallie_litellm.guard.api import (
        AIRequestResult,
        AIRequestStream,
        calculate_cost,
        execute_ai_request,
        execute_ai_request_sync,
        extract_text,
        stream_ai_request,
    )
    from wallie_litellm.guard.capacity_lease import CapacityLease
    from wallie_litellm.guard.request import Target
    from wallie_litellm.guard.router import WallieRouter

__all__ = [
    "AIRequestResult",
    "AIRequestStream",
    "BudgetExhausted",
    "CapacityLease",
    "ChainExhausted",
    "CircuitOpen",
    "ConfigError",
    "DeadlineExceeded",
    "Guard",
    "MemberFailure",
    "RateLimited",
    "Refused",
    "RequestTooLarge",
    "RouterConfig",
    "Settled",
    "Target",
    "WallieConfig",
    "WallieError",
    "WallieRouter",
    "build_router",
    "calculate_cost",
    "execute_ai_request",
    "execute_ai_request_sync",
    "extract_text",
    "load_config",
    "stream_ai_request",
]

# Where each name is defined. A module is imported with the first use of one of its names: LiteLLM takes seconds, the
# guard a third of one, and the processes of the simulator and of the page need neither.
_PLACES = {
    "bootstrap": ("build_router",),
    "config": ("RouterConfig", "WallieConfig", "load_config"),
    "errors": (
        "BudgetExhausted",
        "ChainExhausted",
        "CircuitOpen",
        "ConfigError",
        "DeadlineExceeded",
        "MemberFailure",
        "RateLimited",
        "Refused",
        "RequestTooLarge",
        "WallieError",
    ),
    "events": ("Settled",),
    "guard": ("Guard",),
    "guard.api": (
        "AIRequestResult",
        "AIRequestStream",
        "calculate_cost",
        "execute_ai_request",
        "execute_ai_request_sync",
        "extract_text",
        "stream_ai_request",
    ),
    "guard.capacity_lease": ("CapacityLease",),
    "guard.request": ("Target",),
    "guard.router": ("WallieRouter",),
}
_LAZY = {name: module for module, names in _PLACES.items() for name in names}
# Can be named after a plain import of the package.
_MODULES = (
    "clock",
    "config",
    "core",
    "errors",
    "events",
    "guard",
    "limiter",
    "litellm_adapter",
    "routing",
    "telemetry",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return __all__
