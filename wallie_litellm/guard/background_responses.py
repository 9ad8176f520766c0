"""Responses that are finished in the background: each is billed once, by its usage, when a poll finds it finished.

The call that begins one is answered at once, as ``queued``, and costs nothing yet. A poll is no request to a model.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from wallie_litellm.clock import DAY
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.guard.context import Attempt, Caller, RequestContext
from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.router_view import RouterView
from wallie_litellm.litellm_adapter.inner_router import InnerRouter
from wallie_litellm.litellm_adapter.metadata import tags_of
from wallie_litellm.litellm_adapter.responses import answer_of, deployment_id_of
from wallie_litellm.litellm_adapter.wires.openai_responses import (
    ResponsesReader,
    created_at,
    is_finished_in_background,
    vendors_id,
)

logger = logging.getLogger(__name__)

OPERATION: Final = "background_response"
MOST_KEPT: Final = 10_000  # responses of which it is known that they are billed, or on whose behalf they were begun


class BackgroundResponses:
    """The background responses that one router has begun, or polled. Safe to use from several threads."""

    def __init__(self, guard: Guard, inner: InnerRouter) -> None:
        self._guard = guard
        self._inner = inner
        self._lock = threading.Lock()
        self._callers: OrderedDict[str, tuple[str, Caller]] = OrderedDict()  # group and caller, by the vendor's id
        self._billed: OrderedDict[str, None] = OrderedDict()

    def at(self, inner: InnerRouter) -> BackgroundResponses:
        """The same, polled through another of LiteLLM's Routers from now on."""
        self._inner = inner
        return self

    def begun(self, answer: Any, group: str, caller: Caller) -> None:
        """A call was answered with a response that is still under way."""
        with self._lock:
            _keep(self._callers, vendors_id(answer), (group, caller))

    def billed(self, key: str) -> bool:
        """Note that the response ``key`` is billed; ``False`` where it has been before."""
        with self._lock:
            if key in self._billed:
                return False
            _keep(self._billed, key, None)
            return True

    def served(self, context: RequestContext, response: tuple[str, float]) -> None:
        """A request has the whole of a background response: no poll is to bill it, in whatever process."""
        context.response = response
        key, _ = response
        if self.billed(key):
            self._guard.reporter.once(_once_key(key), DAY, lambda: None)

    async def get(self, view: RouterView, *args: Any, **kwargs: Any) -> Any:
        """LiteLLM's ``Router.aget_responses``; a response that it finds finished is billed."""
        answer = await self._inner.router.aget_responses(*args, **kwargs)
        try:
            if is_finished_in_background(answer):
                self._bill(answer, view, kwargs)
        except Exception:  # an answer that cannot be billed is the caller's all the same
            logger.warning("A response that was finished in the background could not be billed", exc_info=True)
        return answer

    def _bill(self, answer: Any, view: RouterView, kwargs: Mapping[str, Any]) -> None:
        key = vendors_id(answer)
        deployment = self._inner.deployment_with(deployment_id_of(answer))
        report = answer_of(answer, ResponsesReader)
        if deployment is None or report.usage is None or not self.billed(key):
            return
        begun = self._callers.pop(key, None)
        group, caller = begun or (str(deployment.get("model_name")), Caller(*tags_of(kwargs)))
        guard, destination = self._guard, self._inner.destination_of(deployment)
        context = guard.open_context(group, chain=(), operation=OPERATION, router=view, **caller._asdict())
        attempt = Attempt(
            group,
            provider=destination.provider,
            account=destination.account,
            deployment=str(deployment["litellm_params"]["model"]),
            deployment_id=deployment_id_of(answer),
            entry=deployment,
            started_at=context.started_at,
        )
        attempt.budget_hold = guard.budgets.unreserved(caller.feature, caller.user_id, caller.proxy_key)
        used = report.usage._replace(requests=0)  # the call that began it was the request
        result = AttemptResult(
            Outcome.SUCCESS, Verdict.IGNORED, used, reported=report.reported, response_cost=report.cost
        )

        def publish() -> None:
            guard.limiter(attempt.provider).consume(used)
            guard.reporter.finished_later(context, attempt, result, used, (key, created_at(answer)))

        guard.reporter.once(_once_key(key), DAY, publish)


def _once_key(key: str) -> str:
    return f"response:{key}"


def _keep(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    if len(kept) > MOST_KEPT:
        kept.popitem(last=False)
