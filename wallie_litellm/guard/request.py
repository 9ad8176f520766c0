"""One call of a router's method: what is sent, under which rules, and along which chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from wallie_litellm.core.operations import DUPLICABLE
from wallie_litellm.core.prompt_size import PromptSize
from wallie_litellm.guard.context import RequestContext
from wallie_litellm.guard.request_loop import RequestLoop, Step
from wallie_litellm.litellm_adapter.endpoints import Endpoint
from wallie_litellm.litellm_adapter.requests import SizeReader

_METADATA: Final = ("metadata", "litellm_metadata")
# Arguments by which the vendor keeps an answer, or adds it to what it has kept.
_KEPT_BY_VENDORS: Final = ("background", "conversation", "mcp_servers", "previous_response_id", "store")


class Target(NamedTuple):
    """Where an application's own call should go: ``model`` is the vendor's name, ``group`` the model group's."""

    provider: str
    model: str
    group: str = ""


@dataclass(slots=True)
class Request:
    """A request under way.

    ``arguments`` are the caller's, by name, without the model. ``first_token`` in seconds goes before the feature's and
    the provider's. ``execute`` makes the call instead of LiteLLM. ``hedge``: the caller lets it be hedged.
    """

    context: RequestContext
    endpoint: Endpoint
    loop: RequestLoop
    arguments: Mapping[str, Any]
    first_token: float | None = None
    execute: Callable[[Target], Awaitable[Any]] | None = None
    hedge: bool = True
    _size: tuple[Any, PromptSize] | None = None  # and the prompt that it is of

    @property
    def streams(self) -> bool:
        """Whether the answer comes as a stream."""
        return self.endpoint.streams or self.arguments.get("stream") is True

    @property
    def may_be_hedged(self) -> bool:
        """Whether the same may be asked twice at once: nothing stays at the vendor, and nothing there goes on."""
        if not self.hedge or self.execute is not None or self.context.operation not in DUPLICABLE:
            return False
        arguments = self.arguments
        return not (any(map(arguments.get, _KEPT_BY_VENDORS)) or any(map(_is_remote, arguments.get("tools") or ())))

    def arguments_of(self, step: Step, *, apart: bool = False) -> dict[str, Any]:
        """The arguments of one attempt. LiteLLM writes into them: the caller's own stay as they are.

        ``apart``: another attempt is under way, whose arguments stay as they are, too.
        """
        arguments = {**self.arguments, **step.parameters}
        for key in _METADATA:
            given = arguments.get(key)
            # The proxy's own, which is made for one request and read afterwards, stays the same object.
            if isinstance(given, dict) and (apart or "user_api_key" not in given):
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

    def adopt(self, arguments: Mapping[str, Any]) -> None:
        """The attempt with these ``arguments``, which were apart, serves: the proxy's metadata are as it left them."""
        for key in _METADATA:
            given, written = self.arguments.get(key), arguments.get(key)
            if isinstance(given, dict) and isinstance(written, dict) and "user_api_key" in given:
                given.update(written)


def _is_remote(tool: Any) -> bool:
    """Whether the vendor has a server of the caller's run the tool: its effects are not to come twice."""
    return isinstance(tool, Mapping) and tool.get("type") == "mcp"
