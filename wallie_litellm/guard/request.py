"""One call of a router's method: what is sent, under which rules, and along which chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from wallie_litellm.core.demand import Demand
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.request_loop import RequestLoop, Step
from wallie_litellm.litellm_adapter.endpoints import Endpoint
from wallie_litellm.litellm_adapter.requests import demand_of, output_limit


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

    def estimate(self, attempt: Attempt, arguments: Mapping[str, Any]) -> bool:
        """Set what ``attempt`` will use, by the caller's arguments. True if its output is only a guess."""
        stated = self.context.estimated_tokens
        if stated is not None:
            attempt.demand = Demand(1, stated, stated, 0)
            return False
        limit = output_limit(arguments)
        attempt.demand = self._demand(arguments, limit)
        return limit is None

    def estimate_at(self, attempt: Attempt, arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        """Correct a guessed estimate by the deployment's ``parameters``. True if its output is still a guess."""
        limit = output_limit(parameters)
        if limit is None:
            return True
        attempt.demand = self._demand(arguments, limit)
        return False

    def _demand(self, arguments: Mapping[str, Any], limit: int | None) -> Demand:
        return demand_of(arguments, self.prompt(arguments), limit, self.context.operation)

    def prompt(self, arguments: Mapping[str, Any]) -> Any:
        """What is sent to the model."""
        return arguments.get(self.endpoint.prompt)
