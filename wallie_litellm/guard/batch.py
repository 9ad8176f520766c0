"""The Router's batch methods, over guarded calls."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from wallie_litellm.litellm_adapter.wires.fields import headers_of


class BatchCalls(ABC):
    """Several chat requests in one call, as LiteLLM's Router has them: errors are returned among the answers."""

    @abstractmethod
    async def acompletion(self, model: str, messages: Any, stream: bool = False, **kwargs: Any) -> Any:
        """One chat request."""

    async def abatch_completion(self, models: Sequence[str], messages: Sequence[Any], **kwargs: Any) -> list[Any]:
        """One conversation to several models, or several to each: a list of answers, or of lists of them."""
        if all(isinstance(message, dict) for message in messages):
            return list(await asyncio.gather(*(self._answer_or_error(model, messages, **kwargs) for model in models)))
        return list(
            await asyncio.gather(*(self.abatch_completion(models, conversation, **kwargs) for conversation in messages))
        )

    async def abatch_completion_one_model_multiple_requests(
        self, model: str, messages: Sequence[Any], **kwargs: Any
    ) -> list[Any]:
        """Several conversations to one model."""
        requests = (self._answer_or_error(model, conversation, **kwargs) for conversation in messages)
        return list(await asyncio.gather(*requests))

    async def abatch_completion_fastest_response(
        self, model: str, messages: Any, stream: bool = False, **kwargs: Any
    ) -> Any:
        """The first answer of several models, whose names are separated by commas; the others are cancelled.

        Raises:
            Exception: all of them failed.
        """
        names = [name.strip() for name in model.split(",")]
        pending = {
            asyncio.ensure_future(self._answer_or_error(name, messages, stream=stream, **kwargs)) for name in names
        }
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if not isinstance(answer := task.result(), Exception):
                        return answer
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        raise Exception("All tasks failed")

    async def schedule_acompletion(
        self, model: str, messages: Any, priority: int, stream: bool = False, **kwargs: Any
    ) -> Any:
        """A chat request with a place in the queue: LiteLLM's priority 0 is the highest."""
        response = await self.acompletion(model, messages, stream=stream, priority=priority, **kwargs)
        if (headers := headers_of(response)) is not None:
            headers["x-litellm-request-prioritization-used"] = True
        return response

    async def _answer_or_error(self, model: str, messages: Any, **kwargs: Any) -> Any:
        try:
            return await self.acompletion(model=model, messages=messages, **{"hedge": False, **kwargs})
        except Exception as error:  # noqa: BLE001 - LiteLLM returns it in the answer's place
            return error
