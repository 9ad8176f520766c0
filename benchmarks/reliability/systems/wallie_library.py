"""Ours in the process of the application."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


class WallieLibrary:
    """``spec["config"]`` is the path of the configuration."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._router: Any = None

    async def start(self) -> None:
        import litellm

        from wallie_litellm import build_router

        litellm.suppress_debug_info = True
        self._router = build_router(self._spec["config"])

    async def ask(self, group: dict[str, Any], messages: list[dict[str, str]], *, stream: bool) -> Any:
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        options["metadata"] = {"feature": self._spec["feature"]}
        return await self._router.acompletion(model=group["name"], messages=messages, stream=stream, **options)

    def versions(self) -> dict[str, str]:
        return {"litellm": version("litellm"), "wallie-litellm": version("wallie-litellm")}

    async def close(self) -> None:
        await self._router.guard.aclose()
