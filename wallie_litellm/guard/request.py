"""One call of a router's method: what is sent, under which rules, and along which chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from wallie_litellm.core.prompt_size import PromptSize
from wallie_litellm.guard.context import RequestContext
from wallie_litellm.guard.request_loop import RequestLoop, Step
from wallie_litellm.litellm_adapter.endpoints import Endpoint
from wallie_litellm.litellm_adapter.requests import SizeReader


class Target(NamedTuple):
    """Where an application's own call should go: ``model`` is the vendor's name, ``group`` the model group's."""

    provider: str
    model: str
    group: str = ""


@dataclass(slots=True)
class Request:
    """A request under way.

    ``arguments`` are the caller's, by name, without the model. ``first_token`` in seconds goes before the feature's and
    the provider's. ``execute`` makes the call instead of LiteLLM.
    """

    context: RequestContext
    endpoint: Endpoint
    loop: RequestLoop
    arguments: Mapping[str, Any]
    first_token: float | None = None
    execute: Callable[[Target], Awaitable[Any]] | None = None
    _size: tuple[Any, PromptSize] | None = None  # and the prompt that it is of

    @property
    def streams(self) -> bool:
        """Whether the answer comes as a stream."""
        return self.endpoint.streams or self.arguments.get("stream") is True

    def arguments_of(self, step: Step) -> dict[str, Any]:
        """The arguments of one attempt. LiteLLM writes into them: the caller's own stay as they are."""
        arguments = {**self.arguments, **step.parameters}
        for key in ("metadata", "litellm_metadata"):
            given = arguments.get(key)
            # The proxy's own, which is made for one request and read afterwards, stays the same object.
            if isinstance(given, dict) and "user_api_key" not in given:
                arguments[key] = dict(given)
        if step.prefill is not None:
            answer = {"role": "assistant", "content": step.prefill, "prefix": True}
            arguments["messages"] = [*arguments["messages"], answer]
        return arguments

    def size(self, arguments: Mapping[str, Any], sizes: SizeReader) -> PromptSize:
        """The size of what is sent; read once for each prompt, as a retry sends the same."""
        prompt = self.prompt(arguments)
        if self._size is None or self._size[0] is not prompt:
            self._size = prompt, sizes.size_of(arguments, self.endpoint.prompt)
        return self._size[1]

    def prompt(self, arguments: Mapping[str, Any]) -> Any:
        """What is sent to the model."""
        return arguments.get(self.endpoint.prompt)
