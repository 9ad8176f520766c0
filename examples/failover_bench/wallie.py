"""The adapter for Failover Bench: copy it to ``failoverbench/adapters/``, and add it to ``REGISTRY`` there."""

from __future__ import annotations

import time
from typing import Any

from .base import Adapter, CallResult


class WallieAdapter(Adapter):
    """``params.config`` is the path of router_config.yaml, ``params.feature`` the feature of its requests.

    The chains of the file say what each model falls back to, so that ``fallback`` is not looked at.
    """

    name = "wallie"
    capabilities = {"fallback": True, "streaming": True}  # noqa: RUF012 - as in the other adapters

    async def start(self) -> None:
        from wallie_litellm import build_router

        self._router = build_router(self.params["config"])

    async def complete(
        self, primary: str, fallback: str | None, stream: bool, messages: list[dict[str, Any]], deadline_s: float
    ) -> CallResult:
        began = time.monotonic()
        result = CallResult(ok=False)
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        options["metadata"] = {"feature": self.params["feature"]}
        try:
            response = await self._router.acompletion(model=primary, messages=messages, **options)
            if stream:
                async for chunk in response:
                    self._add(result, chunk, began)
            else:
                result.content = response.choices[0].message.content or ""
                result.reported_model, result.usage = response.model, _usage(response)
            result.ok = True
        except Exception as error:
            result.error, result.status = f"{type(error).__name__}: {error}"[:300], getattr(error, "status_code", None)
        result.elapsed_s = round(time.monotonic() - began, 3)
        return result

    def _add(self, result: CallResult, chunk: Any, began: float) -> None:
        result.chunks += 1
        result.reported_model = chunk.model or result.reported_model
        result.usage = _usage(chunk) or result.usage
        for choice in chunk.choices:
            if choice.delta.content:
                result.content += choice.delta.content
                result.ttft_s = result.ttft_s or round(time.monotonic() - began, 3)

    async def close(self) -> None:
        await self._router.guard.aclose()


def _usage(response: Any) -> dict[str, Any] | None:
    usage = getattr(response, "usage", None)
    return usage.model_dump() if usage else None
