"""LiteLLM's Router in the process of the application."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


class LiteLLMRouter:
    """``spec["router"]`` are the Router's arguments."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._router: Any = None

    async def start(self) -> None:
        import litellm

        litellm.suppress_debug_info = True
        self._router = litellm.Router(**self._spec["router"])

    async def ask(self, group: dict[str, Any], messages: list[dict[str, str]], *, stream: bool) -> Any:
        options = {"stream_options": {"include_usage": True}} if stream else {}
        return await self._router.acompletion(model=group["name"], messages=messages, stream=stream, **options)

    def versions(self) -> dict[str, str]:
        return {"litellm": version("litellm")}

    async def close(self) -> None:
        self._router.discard()
