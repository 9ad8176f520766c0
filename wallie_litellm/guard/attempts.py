"""Attempts: a deployment is picked, its capacity waited for, one call made and settled. For coroutines and threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import openai

from wallie_litellm.config.values import AUTO_FIRST_TOKEN
from wallie_litellm.core.attempt_result import HEDGED, NO_CONTENT, AttemptResult
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.errors import DeadlineExceeded, Refused
from wallie_litellm.guard.answer_headers import add_headers
from wallie_litellm.guard.answers import Answers, counted_of
from wallie_litellm.guard.attempt_stream import SLOW_ANSWER, AttemptStream, StreamBounds
from wallie_litellm.guard.background_responses import BackgroundResponses
from wallie_litellm.guard.budgeting import budgeting_of
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.hedged_attempt import HedgedAttempt
from wallie_litellm.guard.picking import Picking
from wallie_litellm.guard.request import Request, Target
from wallie_litellm.guard.request_loop import Step
from wallie_litellm.guard.silence_bound import SilenceBound
from wallie_litellm.litellm_adapter.calls import DeploymentCalls
from wallie_litellm.litellm_adapter.errors import (
    FirstTokenTimeout,
    classify_error,
    content_filtered,
    first_token_timeout,
    timeout_error,
)
from wallie_litellm.litellm_adapter.inner_router import Deployment, InnerRouter, id_of
from wallie_litellm.litellm_adapter.prompt_marks import mark_prompt
from wallie_litellm.litellm_adapter.requests import SizeReader, is_marked, wish_of
from wallie_litellm.litellm_adapter.responses import answer_headers, is_cached_stream, is_filtered, iterates
from wallie_litellm.litellm_adapter.sole_picks import SolePicks
from wallie_litellm.routing.hedging import HedgePolicy, Hedging

Follow = Callable[[Attempt, Exception], Step]  # what comes after a failed attempt, else the error that is raised


class Attempts:
    """Carries out the steps of a request's loop; those ``before`` were of an earlier configuration."""

    def __init__(
        self, guard: Guard, inner: InnerRouter, calls: DeploymentCalls, picks: SolePicks, before: Attempts | None = None
    ) -> None:
        self.guard = guard
        self._inner = inner
        self._calls = calls
        self._picks = picks
        self._providers = guard.config.providers
        self.background: BackgroundResponses = (
            BackgroundResponses(guard, inner) if before is None else before.background.at(inner)
        )
        self._vendor_limits = guard.vendor_limits
        self._answers = Answers(self.background)
        self._estimates = guard.estimates
        self._sizes = SizeReader()
        self._warm = guard.routing.warm
        self._hedging = guard.routing.hedging
        self._budgeting = budgeting_of(guard)

    def deployments_of(self, group: str) -> Sequence[Deployment]:
        """The deployments behind a group."""
        return self._inner.deployments_of(group)

    async def run(self, request: Request, step: Step, follow: Follow | None = None) -> Any:
        """The first answer, from ``step`` on: a response, or an :class:`AttemptStream`.

        ``follow`` returns what comes after a failed attempt; unless given, the request's loop does.

        Raises:
            Exception: the error that the caller receives.
        """
        deadline_at = request.context.deadline_at
        if deadline_at is None:
            return await self._run(request, step, follow)
        timeout = asyncio.timeout(max(0.0, deadline_at - self.guard.clock.now()))
        try:
            async with timeout:
                return await self._run(request, step, follow)
        except TimeoutError as error:
            if timeout.expired():
                group = request.context.group
                raise DeadlineExceeded(f"The deadline passed before {group} could answer.") from error
            raise

    async def _run(self, request: Request, step: Step, follow: Follow | None) -> Any:
        last: Exception = RuntimeError("no attempt has been made")
        hedging = None if self._hedging is None else _policy_for(request, self._hedging)
        try:
            while True:
                if step.delay:
                    request.context.waited += step.delay
                    await self.guard.sleep(step.delay)
                    if self.guard.closed:
                        raise last
                if step.is_fallback:
                    granted = request.context.grants(step.group)
                    if not await self._inner.may_fall_back(step.group, request.arguments_of(step), granted=granted):
                        step = request.loop.skip(last)
                        continue
                    self._begin_fallback(request, step)
                attempt = Attempt(step.group)
                hedged = None if hedging is None else self._hedged(request, step, hedging)
                try:
                    if hedged is None:
                        return await self.make(request, step, attempt)
                    return await hedged.run(step, attempt)
                except Exception as error:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():  # and LiteLLM has made an error of it
                        raise asyncio.CancelledError from error
                    last = error
                    step = (follow or request.loop.after)(attempt if hedged is None else hedged.last, error)
        finally:
            del last  # its traceback holds this frame

    def run_blocking(self, request: Request, step: Step, follow: Follow | None = None) -> Any:
        """:meth:`run` for code without an event loop."""
        while True:
            if step.delay:
                request.context.waited += step.delay
                time.sleep(step.delay)
            if step.is_fallback:
                self._begin_fallback(request, step)
            attempt = Attempt(step.group)
            try:
                return self._make_blocking(request, step, attempt)
            except Exception as error:  # noqa: BLE001 - the loop raises it again, or another
                step = (follow or request.loop.after)(attempt, error)

    def _hedged(self, request: Request, step: Step, policy: HedgePolicy) -> HedgedAttempt | None:
        """The attempt that may be hedged: a request has one hedge, and none that goes on from text."""
        decided = request.context.decided
        if (decided is not None and decided.hedged) or step.prefill is not None or request.loop.hedge() is None:
            return None
        return HedgedAttempt(self, self.guard, request, policy)

    async def may_fall_back(self, request: Request, step: Step) -> bool:
        """Whether the caller may use the group of ``step``."""
        return await self._inner.may_fall_back(step.group, request.arguments_of(step, apart=True))

    def _begin_fallback(self, request: Request, step: Step) -> None:
        request.context.tried.fallbacks += 1
        self.guard.begin_fallback(request.context, step.group)

    # One attempt

    async def make(self, request: Request, step: Step, attempt: Attempt) -> Any:
        """One attempt, from the pick to its answer or its stream."""
        context = request.context
        arguments, picking = self._begin(request, step, attempt)
        deployment = await self._pick(request, attempt, picking, arguments)
        guessed, race, budgeting = self._choose(request, attempt, arguments, deployment), attempt.race, self._budgeting
        if budgeting is not None:
            await budgeting.reserve(context, attempt)
        try:
            if race is not None and attempt.hedge:
                race.admit(attempt, guessed=guessed)
            else:
                await self.guard.admit(context, attempt, attempt.demand, guessed=guessed)
        except BaseException as error:
            self._not_admitted(request, attempt, error)
            raise
        try:
            picking.settle_on(deployment)
            if race is not None:
                race.begun(attempt, arguments)
            response = await self._call(request, attempt, picking, arguments)
            return self._succeed(request, attempt, arguments, response)
        except BaseException as error:
            self.fail(request, attempt, error)
            raise

    def _make_blocking(self, request: Request, step: Step, attempt: Attempt) -> Any:
        context = request.context
        arguments, picking = self._begin(request, step, attempt)
        deployment = self._pick_blocking(request, attempt, picking, arguments)
        guessed = self._choose(request, attempt, arguments, deployment)
        if self._budgeting is not None:
            self._budgeting.reserve_blocking(context, attempt)
        try:
            self.guard.admit_blocking(context, attempt, attempt.demand, guessed=guessed)
        except BaseException as error:
            self._not_admitted(request, attempt, error)
            raise
        try:
            picking.settle_on(deployment)
            response = self._call_blocking(request, attempt, picking, arguments)
            return self._succeed(request, attempt, arguments, response)
        except BaseException as error:
            self.fail(request, attempt, error)
            raise

    def _begin(self, request: Request, step: Step, attempt: Attempt) -> tuple[dict[str, Any], Picking]:
        """The attempt's arguments, and what LiteLLM is to pick from.

        Raises:
            DeadlineExceeded: the caller's deadline has passed.
            Exception: the fault that the caller asked for.
        """
        if request.context.deadline_at is not None:
            self.guard.check_deadline(request.context)
        if (fault := request.loop.take_mock_fault()) is not None:
            raise fault
        arguments = request.arguments_of(step, apart=attempt.hedge)
        return arguments, Picking(self.guard, self._inner, request.context, attempt, step.excluded)

    def _call_blocking(self, request: Request, attempt: Attempt, picking: Picking, arguments: dict[str, Any]) -> Any:
        """Make the call; of a stream, LiteLLM's timeout is all that bounds its beginning."""
        deployment = attempt.entry
        bound = None if request.streams else self._first_token(request, attempt)
        stated = self._calls.timeouts.of(arguments, deployment["litellm_params"], stream=request.streams)
        if bound is None or (isinstance(stated, int | float) and stated <= bound):
            return self._calls.call_blocking(request.endpoint, attempt.group, deployment, arguments, picking)
        try:
            late = {**arguments, "timeout": bound}
            return self._calls.call_blocking(request.endpoint, attempt.group, deployment, late, picking)
        except openai.APITimeoutError as error:
            raise first_token_timeout(attempt.deployment, attempt.provider, bound) from error

    def add_headers(self, context: RequestContext, response: Any) -> None:
        """Add what there is to say of a request to the headers of its answer, whole or streamed."""
        add_headers(context, response, self.guard.limit_headers(context))

    # The pick

    async def _pick(
        self, request: Request, attempt: Attempt, picking: Picking, arguments: dict[str, Any]
    ) -> Deployment:
        if (sole := self._sole_pick(picking, arguments)) is not None:
            return sole
        self._estimate(request, attempt, arguments)
        messages, prompt = _prompts(request, arguments)
        while True:
            try:
                with picking:
                    picked = await self._inner.pick(picking.group, arguments, messages, prompt)
                return self._picks.learn(picking.group, picked)
            except Exception as error:
                if not self._may_pick_again(request, attempt, picking, error):
                    raise

    def _pick_blocking(
        self, request: Request, attempt: Attempt, picking: Picking, arguments: dict[str, Any]
    ) -> Deployment:
        if (sole := self._sole_pick(picking, arguments)) is not None:
            return sole
        self._estimate(request, attempt, arguments)
        messages, prompt = _prompts(request, arguments)
        while True:
            try:
                with picking:
                    picked = self._inner.pick_blocking(picking.group, arguments, messages, prompt)
                return self._picks.learn(picking.group, picked)
            except Exception as error:
                if not self._may_pick_again(request, attempt, picking, error):
                    raise

    def _sole_pick(self, picking: Picking, arguments: Mapping[str, Any]) -> Deployment | None:
        """The deployment that LiteLLM would pick, where it need not be asked."""
        return None if picking.excluded else self._picks.of(picking.group, arguments)

    def _may_pick_again(self, request: Request, attempt: Attempt, picking: Picking, error: Exception) -> bool:
        """Whether another pick may find a deployment, now that LiteLLM has found none.

        Raises:
            Refused: this package's filter left none.
        """
        if picking.refused is not None:
            if not attempt.hedge:
                self._refuse(request, Attempt(picking.group), picking.refused)
            raise picking.refused from error
        if picking.widen():
            return True
        if attempt.hedge:
            return False
        result = classify_error(error)
        request.context.fail(picking.group, "", result.reason or type(error).__name__, None, result.status_code)
        return False

    def _estimate(self, request: Request, attempt: Attempt, arguments: Mapping[str, Any]) -> None:
        """Set what the attempt will use, as far as is known before a deployment is picked."""
        context, stated = request.context, request.context.estimated_tokens
        if stated is not None:
            attempt.demand = Demand(1, stated, stated, 0)
            return
        wish = wish_of(arguments, {}, request.prompt(arguments), context.operation)
        size = request.size(arguments, self._sizes)
        attempt.demand = self._estimates.before_pick(size, wish, context.caller.feature, attempt.group).demand

    def _choose(self, request: Request, attempt: Attempt, arguments: dict[str, Any], deployment: Deployment) -> bool:
        """Note the deployment, and estimate as its vendor counts. True if the output may be cut to what limits hold."""
        parameters = deployment["litellm_params"]
        attempt.provider, attempt.account, _ = self._inner.destination_of(deployment)
        attempt.scope = self._inner.scope_of(deployment)
        attempt.deployment = parameters["model"]
        attempt.deployment_id = id_of(deployment)
        attempt.entry = deployment
        model = self._estimates.model_of(attempt)
        attempt.rule = rule = model.rule
        context = request.context
        if (points := context.rules.prompt_cache) is not None:
            mark_prompt(arguments, deployment, points, context.operation)
        if (stated := context.estimated_tokens) is not None:
            attempt.demand = Demand(1, stated, stated, 0)
            return False
        wish = wish_of(arguments, parameters, request.prompt(arguments), context.operation)
        size = request.size(arguments, self._sizes)
        marked = size.marked or (rule.marks_cache and is_marked(arguments, parameters))
        attempt.estimate = estimate = self._estimates.of(
            model, size, wish, context.caller.feature, attempt.group, marked=marked
        )
        attempt.demand = estimate.demand
        if estimate.may_exceed:
            attempt.demand = self._estimates.cut(
                estimate.demand, partial(self.guard.capacity, attempt, context.caller.feature)
            )
        return True

    def _not_admitted(self, request: Request, attempt: Attempt, error: BaseException) -> None:
        if self._budgeting is not None:
            self._budgeting.release(attempt, error)
        if isinstance(error, Refused) and not attempt.hedge:
            self._refuse(request, attempt, error)

    @staticmethod
    def _refuse(request: Request, attempt: Attempt, refused: Refused) -> None:
        reason = str(refused).rstrip(".")
        request.context.fail(attempt.group, refused.provider, reason, refused.retry_after, refused.status_code)

    # The call

    async def _call(self, request: Request, attempt: Attempt, picking: Picking, arguments: dict[str, Any]) -> Any:
        """Make the call; its beginning, of a stream, and its whole, under ``first_token``, are bounded in time."""
        bound = first_token = self._first_token(request, attempt)
        if request.streams:
            # LiteLLM keeps a stream's beginning to the timeout for most vendors only.
            stated = self._calls.timeouts.of(arguments, attempt.entry["litellm_params"], stream=True)
            if isinstance(stated, int | float) and (bound is None or stated < bound):
                bound, first_token = float(stated), None
        if bound is None:
            return await self._send(request, attempt, picking, arguments)
        timeout = asyncio.timeout(bound) if first_token is None else SilenceBound(first_token)
        try:
            async with timeout:
                return await self._send(request, attempt, picking, arguments)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            if first_token is None:
                raise timeout_error(attempt.deployment, attempt.provider) from error
            raise first_token_timeout(attempt.deployment, attempt.provider, first_token) from error

    async def _send(self, request: Request, attempt: Attempt, picking: Picking, arguments: dict[str, Any]) -> Any:
        if request.execute is None:
            return await self._calls.call(request.endpoint, attempt.group, attempt.entry, arguments, picking)
        name = attempt.deployment
        return await request.execute(Target(attempt.provider, name.partition("/")[2] or name, attempt.group))

    def _first_token(self, request: Request, attempt: Attempt) -> float | None:
        """Seconds in which content must come: the request's own, the feature's, or the provider's."""
        seconds = request.first_token
        if seconds is None:
            seconds = request.context.rules.first_token
        if seconds is None and (limits := self._providers.get(attempt.provider)) is not None:
            seconds = limits.first_token
        if seconds is not AUTO_FIRST_TOKEN:
            return seconds
        bounds = self.guard.routing.first_tokens
        return None if bounds is None else bounds.of(attempt.scope, request.streams)

    # The settlement

    def _succeed(self, request: Request, attempt: Attempt, arguments: dict[str, Any], response: Any) -> Any:
        context = request.context
        if self._warm is not None and (decided := context.decided) is not None and decided.warm is not None:
            self._warm.served(decided.warm, attempt.scope, attempt.group)
        if request.execute is None and iterates(type(response)):  # type: ignore[arg-type] # a type is hashable
            context.served_by, context.stream = attempt, True
            if not is_cached_stream(response):
                self._vendor_limits.answered(attempt, answer_headers(response))
            return self._stream(request, attempt, arguments, response)
        result = self._answers.result_of(context, attempt, response)
        if result.outcome is not Outcome.CACHE_HIT:
            self._vendor_limits.answered(attempt, answer_headers(response))
        filtered = is_filtered(response) and request.loop.has_content_policy_chain()
        if attempt.race is not None and not filtered:
            attempt.race.win(attempt)
        self.guard.settle(context, attempt, result)
        self._estimates.learn(attempt, result)
        if filtered:
            raise content_filtered(attempt.group)
        context.served_by = attempt
        return response

    def _stream(self, request: Request, attempt: Attempt, arguments: dict[str, Any], stream: Any) -> AttemptStream:
        context, guard = request.context, self.guard
        stated = self._calls.timeouts.of(arguments, attempt.entry["litellm_params"], stream=True)
        first_token = self._first_token(request, attempt)

        background, estimates = self.background, self._estimates

        def settle(result: AttemptResult, billed_response: tuple[str, float] | None) -> None:
            if billed_response is not None:
                background.served(context, billed_response)
            result = result._replace(counted=counted_of(attempt, result.usage, result.reported))
            is_first = guard.settle(context, attempt, result)
            estimates.learn(attempt, result)
            if is_first and result.reason is not None:
                if result.reason == NO_CONTENT and not attempt.hedge:
                    context.waited += guard.clock.now() - attempt.started_at
                if result.reason != HEDGED:
                    context.fail_attempt(attempt, result)

        return AttemptStream(
            stream,
            attempt,
            StreamBounds(
                idle=float(stated) if isinstance(stated, int | float) else None,
                first_token_at=None if first_token is None else attempt.started_at + first_token,
                first_token=first_token,
                deadline_at=context.deadline_at,
                now=guard.clock.now,
            ),
            settle,
            guard.later,
            context.operation,
        )

    def fail(self, request: Request, attempt: Attempt, error: BaseException) -> None:
        """Settle an attempt that has ended with ``error``."""
        context, clock = request.context, self.guard.clock
        if attempt.result is not None:
            return
        late = context.deadline_at is not None and clock.now() >= context.deadline_at
        slow = clock.now() - attempt.started_at >= SLOW_ANSWER
        result = classify_error(error, deadline_passed=late and slow)
        if request.execute is not None and result.reason == type(error).__name__:
            result = result._replace(transient=False)  # the application's own error, of its own making
        if isinstance(error, GeneratorExit):  # a coroutine that is collected: see Guard.later
            self.guard.later(lambda: self.guard.settle(context, attempt, result))
            return
        if isinstance(error, FirstTokenTimeout) and not attempt.hedge:  # beside the attempt, nothing was waited for
            context.waited += clock.now() - attempt.started_at
        self._vendor_limits.refused(attempt, error, result.status_code)
        self.guard.settle(context, attempt, result)
        context.fail_attempt(attempt, result)


def _prompts(request: Request, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """What is sent, as messages or as an input: LiteLLM's pick counts either for its checks."""
    prompt = request.prompt(arguments)
    return (prompt, None) if request.endpoint.prompt == "messages" else (None, prompt)


def _policy_for(request: Request, hedging: Hedging) -> HedgePolicy | None:
    """What the request is hedged by, if it may be; it counts for the budget once."""
    policy = hedging.of(request.context.caller.feature)
    if policy is None or not request.may_be_hedged:
        return None
    if not request.context.attempts:
        policy.count_request()
    return policy
