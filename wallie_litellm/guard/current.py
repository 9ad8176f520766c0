"""The request and the attempt that the present context is about: what the overrides of LiteLLM's Router share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from wallie_litellm.core.demand import Demand
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.litellm_adapter.requests import demand_of


class Call:
    """The attempt that is being made in this context, and what routing needs to know of it."""

    __slots__ = ("attempt", "demand", "guessed", "opening", "params", "routing", "scope")

    def __init__(self, scope: RequestContext, attempt: Attempt) -> None:
        self.scope = scope
        self.attempt = attempt
        self.demand = Demand()
        self.params: Mapping[str, Any] = {}  # the chosen deployment's
        self.guessed = False  # whether nobody stated how long the answer may be
        self.routing = False
        self.opening: asyncio.Timeout | None = None  # bounds the beginning of a stream

    def estimate(self, request_kwargs: Mapping[str, Any], prompt: Any, limit: int | None) -> None:
        """Set what the attempt will use; ``limit`` is the length of the answer where somebody stated one."""
        stated = self.scope.estimated_tokens
        if stated is not None:
            self.demand = Demand(1, stated, stated, 0)
            return
        prompt = prompt if prompt is not None else request_kwargs.get("prompt")
        self.demand = demand_of(request_kwargs, prompt, limit, self.scope.operation)
        self.guessed = limit is None

    def count(self) -> None:
        """Note that the group is being called."""
        calls = self.scope.calls
        calls[self.attempt.group] = calls.get(self.attempt.group, 0) + 1


current_context: ContextVar[RequestContext | None] = ContextVar("wallie_scope", default=None)
current_call: ContextVar[Call | None] = ContextVar("wallie_call", default=None)
#: Set by ``execute_ai_request``: the scope that the next request of this context shall use.
prepared_context: ContextVar[RequestContext | None] = ContextVar("wallie_prepared_scope", default=None)
