"""How callers reach each system. Each module imports a system's packages only when it is started.

``answers``          what a caller makes of a response
``litellm_router``   LiteLLM's Router in the process
``wallie_library``   ours in the process
``gateway``          a gateway behind an address, by OpenAI's SDK
``limiter_before``   a limiter of requests before LiteLLM: token-throttle, or aiolimiter with tenacity
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol


class System(Protocol):
    """What the callers of one system need of it."""

    def __init__(self, spec: dict[str, Any]) -> None: ...

    async def start(self) -> None:
        """Make clients and routers; runs in the loop of the callers."""

    async def ask(self, group: dict[str, Any], messages: list[dict[str, str]], *, stream: bool) -> Any:
        """The response, or the stream, as the system gives it."""

    def versions(self) -> dict[str, str]:
        """Of the packages that matter."""

    async def close(self) -> None:
        """Let go of everything."""


KINDS = {
    "litellm_router": "LiteLLMRouter",
    "wallie_library": "WallieLibrary",
    "gateway": "Gateway",
    "limiter_before": "LimiterBefore",
}


def make_system(spec: dict[str, Any]) -> System:
    """The system of ``spec["kind"]``."""
    module = importlib.import_module(f"benchmarks.reliability.systems.{spec['kind']}")
    made: System = getattr(module, KINDS[spec["kind"]])(spec)
    return made
