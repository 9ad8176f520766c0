"""A gateway behind an address, called with OpenAI's SDK; the gateway alone retries and falls back."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any


class Gateway:
    """``spec`` has ``url``, ``key``, and perhaps ``body`` and ``headers`` for every request, and ``configs`` by group.

    A group's entry of ``configs`` goes along as JSON in the header ``spec["config_header"]``.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._client: Any = None

    async def start(self) -> None:
        import httpx
        from openai import AsyncOpenAI

        # No limits of its own: what waits should wait in the gateway, and the callers know when they leave.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        http = httpx.AsyncClient(limits=limits, trust_env=False, timeout=httpx.Timeout(None))
        self._client = AsyncOpenAI(
            base_url=self._spec["url"], api_key=self._spec["key"], max_retries=0, http_client=http, timeout=None
        )

    async def ask(self, group: dict[str, Any], messages: list[dict[str, str]], *, stream: bool) -> Any:
        headers = dict(self._spec.get("headers") or {})
        if "config_header" in self._spec:
            headers[self._spec["config_header"]] = json.dumps(self._spec["configs"][group["name"]])
        options = {"stream_options": {"include_usage": True}} if stream else {}
        return await self._client.chat.completions.create(
            model=group["name"],
            messages=messages,
            stream=stream,
            extra_headers=headers,
            extra_body=self._spec.get("body"),
            **options,
        )

    def versions(self) -> dict[str, str]:
        return {"openai": version("openai")}

    async def close(self) -> None:
        await self._client.close()
