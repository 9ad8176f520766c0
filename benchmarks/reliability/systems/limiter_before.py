"""A limiter before ``litellm.acompletion``: what applications write that have no router.

Both wait up to the patience for room at the primary and else go to the fallback; attempts that fail are repeated as
OpenAI's cookbook has it, by tenacity with random exponential waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any


class LimiterBefore:
    """``spec["limiter"]`` is ``token-throttle`` or ``aiolimiter``."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._made: dict[str, Any] = {}
        self._litellm: Any = None
        self._tenacity: Any = None

    async def start(self) -> None:
        import litellm
        import tenacity

        litellm.suppress_debug_info = True
        self._litellm, self._tenacity = litellm, tenacity
        make = _token_throttle if self._spec["limiter"] == "token-throttle" else _aiolimiter
        for group in self._spec["groups"].values():
            for member in group["members"]:
                self._made[member["name"]] = make(member["limits"])

    async def ask(self, group: dict[str, Any], messages: list[dict[str, str]], *, stream: bool) -> Any:
        primary, fallback = group["members"]
        try:
            return await self._attempts(primary, group, messages, stream, self._spec["patience"])
        except Exception as error:
            if getattr(error, "status_code", None) in (400, 401, 404) and not _too_long(error):
                raise
            return await self._attempts(fallback, group, messages, stream, self._spec["deadline"])

    async def _attempts(
        self, member: dict[str, Any], group: dict[str, Any], messages: Any, stream: bool, patience: float
    ) -> Any:
        retried = self._tenacity.AsyncRetrying(
            stop=self._tenacity.stop_after_attempt(1 + self._spec["retries"]),
            wait=self._tenacity.wait_random_exponential(min=1, max=60),
            retry=self._tenacity.retry_if_exception(_is_worth_a_retry),
            reraise=True,
        )
        options = {"stream_options": {"include_usage": True}} if stream else {}
        async for attempt in retried:
            with attempt:
                async with self._made[member["name"]](patience):
                    return await self._litellm.acompletion(
                        model=f"openai/{member['model']}",
                        api_base=member["url"],
                        api_key=self._spec["key"],
                        messages=messages,
                        stream=stream,
                        timeout=group["timeout"],
                        max_retries=0,
                        **options,
                    )
        raise AssertionError("tenacity raises the last error")

    def versions(self) -> dict[str, str]:
        extra = ("token-throttle",) if self._spec["limiter"] == "token-throttle" else ("aiolimiter",)
        return {name: version(name) for name in ("litellm", "tenacity", *extra)}

    async def close(self) -> None:
        """Nothing is held open."""


class _NoRoomError(Exception):
    """The limiter had no room within the patience."""


def _is_worth_a_retry(error: BaseException) -> bool:
    status = getattr(error, "status_code", None)
    return isinstance(error, Exception) and not isinstance(error, _NoRoomError) and status not in (400, 401, 403, 404)


def _too_long(error: Exception) -> bool:
    return type(error).__name__ == "ContextWindowExceededError"


def _token_throttle(limits: dict[str, int]) -> Any:
    from token_throttle import MemoryBackendBuilder, PerModelConfig, Quota, RateLimiter, UsageQuotas

    names = {"rpm": ("requests", 60), "rpd": ("requests", 86_400)}
    quotas = [Quota(metric=names[name][0], limit=limit, per_seconds=names[name][1]) for name, limit in limits.items()]
    allowed = UsageQuotas(quotas) if quotas else UsageQuotas.unlimited()
    limiter = RateLimiter(PerModelConfig(quotas=allowed), backend=MemoryBackendBuilder())
    usage = {"requests": 1} if quotas else {}

    @asynccontextmanager
    async def room(patience: float) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                reserved = limiter.reserve(usage, model="one", timeout=patience)
                handle = await stack.enter_async_context(reserved)
            except TimeoutError as error:
                raise _NoRoomError from error
            yield
            handle.set_actual_usage(usage)

    return room


def _aiolimiter(limits: dict[str, int]) -> Any:
    from aiolimiter import AsyncLimiter

    spans = {"rpm": 60.0, "rpd": 86_400.0}
    limiters = [AsyncLimiter(limit, spans[name]) for name, limit in limits.items()]

    @asynccontextmanager
    async def room(patience: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(patience):
                for limiter in limiters:
                    await limiter.acquire()
        except TimeoutError as error:
            raise _NoRoomError from error
        yield

    return room
