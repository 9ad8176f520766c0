"""From an answer in one piece to the result of its attempt: what it used, and what of that the limits count."""

from __future__ import annotations

from typing import Any, Final

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.core.operations import CHAT, EXECUTE, GENERATING, RESPONSES
from wallie_litellm.core.vendor_counting import PLAIN
from wallie_litellm.guard.background_responses import BackgroundResponses
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.litellm_adapter.errors import error_event
from wallie_litellm.litellm_adapter.responses import UsageReport, answer_of, counted_usage
from wallie_litellm.litellm_adapter.wires import wire_of
from wallie_litellm.litellm_adapter.wires.fields import value_of
from wallie_litellm.litellm_adapter.wires.openai_responses import (
    ONE_CALL,
    created_at,
    is_finished_in_background,
    is_under_way,
    vendors_id,
)
from wallie_litellm.litellm_adapter.wires.usage import cached_tokens

# Looking up an enum's member costs more than what is done with it (CPython 3.11).
_SUCCESS, _HEALTHY = Outcome.SUCCESS, Verdict.SUCCESS
_FROM_CACHE: Final = AttemptResult(Outcome.CACHE_HIT)
_UNDER_WAY: Final = AttemptResult(_SUCCESS, _HEALTHY, ONE_CALL)  # a response that is finished in the background


class Answers:
    """Reads the answers to one router's calls."""

    def __init__(self, background: BackgroundResponses) -> None:
        self._background = background

    def result_of(self, context: RequestContext, attempt: Attempt, response: Any) -> AttemptResult:
        """The result of an attempt that was answered in one piece.

        Raises:
            Exception: the answer is an error, under a status of 200.
        """
        operation = context.operation
        answer = answer_of(response) if operation == CHAT else self._read(attempt, operation, response)
        if answer.from_cache:
            return _FROM_CACHE
        if operation == RESPONSES:
            if is_under_way(response):
                self._background.begun(response, attempt.group, context.caller)
                return _UNDER_WAY
            if is_finished_in_background(response):
                self._background.served(context, (vendors_id(response), created_at(response)))
        if answer.usage is None and operation in GENERATING:
            return _without_usage(context, attempt, response, answer)
        return AttemptResult(
            _SUCCESS,
            _HEALTHY,
            answer.usage,
            reported=answer.reported,
            response_cost=answer.cost,
            counted=counted_of(attempt, answer.usage, answer.reported),
        )

    @staticmethod
    def _read(attempt: Attempt, operation: str, response: Any) -> UsageReport:
        wire = wire_of(operation)
        if operation != EXECUTE and (status := wire.failure_in(response)) is not None:
            raise error_event(attempt.deployment, attempt.provider, status, value_of(response, "error"))
        return answer_of(response, wire)


def counted_of(attempt: Attempt, usage: Demand | None, reported: Any) -> Demand | None:
    """What the provider's limits count of a usage, where that is not all of it; ``reported`` is the provider's own."""
    rule = attempt.rule
    if usage is None or rule is PLAIN:
        return None
    return rule.counted(usage, cached_tokens(reported) if rule.excludes_cached and reported is not None else 0)


def _without_usage(context: RequestContext, attempt: Attempt, response: Any, answer: UsageReport) -> AttemptResult:
    """The result of an answer that reports no usage."""
    assert attempt.reservation is not None, "the attempt was admitted"  # noqa: S101 - narrows the type
    if context.operation == EXECUTE and context.estimated_tokens is not None:
        usage = attempt.reservation.demand  # the application's own figure
    else:
        usage = counted_usage(response, wire_of(context.operation), attempt.prompt_tokens)
    counted = counted_of(attempt, usage, None)
    return AttemptResult(_SUCCESS, _HEALTHY, usage, response_cost=answer.cost, estimated=True, counted=counted)
