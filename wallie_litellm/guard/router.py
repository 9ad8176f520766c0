"""``WallieRouter``: LiteLLM's Router with the guard around every attempt.

LiteLLM runs the chain and the retry loop; this class decides. The order of composition is

    chain( retry( breaker( limiter( provider call ))))

An attempt is one ``make_call``: it begins when routing has chosen a deployment and its capacity has been taken, and it
is settled in the frame that began it, whatever happens in between. A stream takes its attempt along and settles it when
it ends, breaks off, or is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import litellm
from litellm.router_utils.cooldown_cache import CooldownCache

from wallie_litellm.core.attempt_result import CANCELLED, AttemptResult, RequestFailure
from wallie_litellm.core.bill import Bill
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.core.http_status import KEY_REFUSED
from wallie_litellm.core.operations import EXECUTE, operation_of
from wallie_litellm.errors import DeadlineExceeded, Refused, WallieError
from wallie_litellm.guard.chain import configured_chains, final_error, stated_chain
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.current import Call, current_call, current_context, prepared_context
from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.router_view import RouterView
from wallie_litellm.guard.streaming_router import SCOPE_KEY, StreamingRouter
from wallie_litellm.litellm_adapter import requests
from wallie_litellm.litellm_adapter.errors import classify_error, failure_from, timeout_error
from wallie_litellm.litellm_adapter.metadata import tags_of
from wallie_litellm.litellm_adapter.pricing import PriceList
from wallie_litellm.litellm_adapter.requests import output_limit
from wallie_litellm.litellm_adapter.responses import answer_of, iterates

logger = logging.getLogger(__name__)

# Looking up an enum's member costs more than what is done with it (CPython 3.11).
_SUCCESS, _HEALTHY = Outcome.SUCCESS, Verdict.SUCCESS
_FROM_CACHE = AttemptResult(Outcome.CACHE_HIT)


class _NoCooldowns(CooldownCache):  # type: ignore[misc] # LiteLLM is not type-checked here
    """LiteLLM asks for cooled-down deployments on every call; where cooldowns are off there are none."""

    async def async_get_active_cooldowns(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def get_active_cooldowns(self, *_: Any, **__: Any) -> list[Any]:
        return []


class WallieRouter(StreamingRouter):
    """A ``litellm.Router`` that waits for capacity, keeps away from dead providers and walks its chains in order.

    Takes ``guard`` besides LiteLLM's own arguments; without one, it builds its own from the defaults.
    """

    guard: Guard
    #: The guard of routers that are built without one: the proxy builds its router by LiteLLM's arguments alone.
    default_guard: Guard | None = None

    def __init__(self, *args: Any, guard: Guard | None = None, **kwargs: Any) -> None:
        self.guard = guard or self.default_guard or Guard()
        kwargs.setdefault("disable_cooldowns", True)
        kwargs["num_retries"] = self.guard.config.retry.max_retries
        for setting in ("retry_policy", "model_group_retry_policy"):
            if kwargs.pop(setting, None):
                logger.warning("router_settings.%s is ignored: wallie.retry is the only authority for retries", setting)
        self._providers: dict[str, str] = {}
        # Counting a Llama model's tokens would first try, and without a network block for half a minute, to download
        # its tokenizer.
        litellm.disable_hf_tokenizer_download = True
        # For embeddings LiteLLM takes the Router's 0 for "not set", and OpenAI's client would retry behind our back.
        litellm.DEFAULT_MAX_RETRIES = 0
        super().__init__(*args, **kwargs)
        self._drop_own_tracking()
        chains = configured_chains(self.fallbacks)
        # LiteLLM stops a chain after five members unless told otherwise.
        self.max_fallbacks: int = max([self.max_fallbacks or 0, *map(len, chains.values())])
        for deployment in self.model_list:
            self.guard.limiter(self.provider_of(deployment))
        self.guard.on_close(self.discard)
        self._prices = PriceList()
        self.view = RouterView(chains, self.providers_of, self._bill)  # as this router's requests carry it
        self.guard.add_router(self.view)

    def providers_of(self, group: str) -> frozenset[str]:
        """The providers behind a model group."""
        return frozenset(map(self.provider_of, self.get_model_list(model_name=group) or ()))

    def chain_of(self, group: str, fallbacks: Any = None) -> Sequence[str]:
        """The groups tried after ``group``: those a request brings along, else those of the config."""
        return self.view.chain_of(group) if fallbacks is None else stated_chain(group, fallbacks)

    @contextmanager
    def outside_request(self) -> Iterator[None]:
        """A context in which a call to a router is a request of its own, not part of the present attempt."""
        scope, call = current_context.set(None), current_call.set(None)
        try:
            yield
        finally:
            current_call.reset(call)
            current_context.reset(scope)

    # The chain

    async def async_function_with_fallbacks(self, *args: Any, **kwargs: Any) -> Any:
        """One request, or one hop of its chain."""
        from_stream = kwargs.pop(SCOPE_KEY, None)
        if not isinstance(from_stream, RequestContext):  # a caller's own idea
            from_stream = None
        if kwargs.get("fallback_depth") and (from_stream or current_context.get()):
            # The chain is the first group's; a member's own fallbacks would break its order.
            kwargs["fallbacks"] = []
            scope = from_stream or current_context.get()
            assert scope is not None  # noqa: S101 - narrows the type
            self.guard.begin_fallback(scope, str(kwargs.get("model")))
            if from_stream is not None and scope.deadline_at is not None:
                return await self._within_deadline(scope, args, kwargs)
            return await self._in_scope(scope, args, kwargs)
        prepared = prepared_context.get()
        if prepared is not None:
            prepared_context.set(None)
        scope = prepared or self._new_scope(kwargs)
        if scope.operation != EXECUTE:
            scope.operation = operation_of(kwargs.get("original_function"), kwargs)
        scope.stream = kwargs.get("stream") is True
        within = self._in_scope if scope.deadline_at is None else self._within_deadline
        try:
            response = await within(scope, args, kwargs)
        except Exception as error:
            final = final_error(scope, error)
            self.guard.end(scope, failure_from(final))
            if final is error:
                raise
            raise final from error
        except GeneratorExit:  # a coroutine that is collected: see Guard.later
            self.guard.later(lambda: self.guard.end(scope, RequestFailure(CANCELLED, by_caller=True)))
            raise
        except BaseException as error:
            self.guard.end(scope, failure_from(error))
            raise
        self._conclude(scope)
        return response

    def _update_kwargs_before_fallbacks(self, model: str, kwargs: dict[str, Any], *args: Any, **more: Any) -> None:
        for key in ("metadata", "litellm_metadata"):
            given = kwargs.get(key)
            # LiteLLM writes errors and keys into it, and a caller may use the same dict for the next request. The
            # proxy's own, which is made for one request and read afterwards, stays the same object.
            if isinstance(given, dict) and "user_api_key" not in given:
                kwargs[key] = dict(given)
        super()._update_kwargs_before_fallbacks(model, kwargs, *args, **more)

    async def _within_deadline(self, scope: RequestContext, args: Any, kwargs: dict[str, Any]) -> Any:
        assert scope.deadline_at is not None  # noqa: S101 - narrows the type
        timeout = asyncio.timeout(max(0.0, scope.deadline_at - self.guard.clock.now()))
        try:
            async with timeout:
                return await self._in_scope(scope, args, kwargs)
        except TimeoutError as error:
            if timeout.expired():
                raise DeadlineExceeded(f"The deadline passed before {scope.group} could answer.") from error
            raise

    async def _in_scope(self, scope: RequestContext | None, args: Any, kwargs: dict[str, Any]) -> Any:
        token = current_context.set(scope)
        try:
            return await super().async_function_with_fallbacks(*args, **kwargs)
        finally:
            current_context.reset(token)

    def _new_scope(self, kwargs: Mapping[str, Any]) -> RequestContext:
        group = str(kwargs.get("model"))
        return self.guard.open_context(
            group,
            chain=self.chain_of(group, kwargs.get("fallbacks")),
            router=self.view,
            **tags_of(kwargs)._asdict(),
        )

    # The retry

    async def async_function_with_retries(self, *args: Any, **kwargs: Any) -> Any:
        """The retry loop of one group, with what is left of the request's retries."""
        scope = current_context.get()
        if scope is not None:
            stated = kwargs.get("num_retries")
            left = self.guard.config.retry.max_retries - scope.retries
            kwargs["num_retries"] = max(0, min(left, stated) if isinstance(stated, int) else left)
            kwargs.pop("model_group_retry_policy", None)
        return await super().async_function_with_retries(*args, **kwargs)

    def should_retry_this_error(self, error: Exception, *args: Any, **kwargs: Any) -> bool:
        """Whether the same group may help: only after transient errors, and while a breaker lets it."""
        scope = current_context.get()
        if scope is None:
            return bool(super().should_retry_this_error(error, *args, **kwargs))
        if isinstance(error, WallieError):
            raise error
        ending = classify_error(error)
        if ending.status_code in KEY_REFUSED and len(kwargs.get("all_deployments") or ()) > 1:
            return True  # another deployment of the group may have a better key
        if not (ending.transient or ending.rate_limited) or not self._some_circuit_closed(scope):
            raise error
        return True

    def _time_to_sleep_before_retry(
        self, e: Exception, remaining_retries: int, num_retries: int, *args: Any, **kwargs: Any
    ) -> float:
        """Seconds to wait before the next attempt. A pause is waited out in the limiter, not here."""
        scope = current_context.get()
        if scope is None:
            return float(super()._time_to_sleep_before_retry(e, remaining_retries, num_retries, *args, **kwargs))
        ending = classify_error(e)
        if remaining_retries <= 0 or ending.rate_limited or ending.pause_for or ending.status_code in KEY_REFUSED:
            return 0.0
        seconds = self.guard.backoff.seconds(num_retries - remaining_retries + 1)
        if scope.deadline_at is not None and self.guard.clock.now() + seconds >= scope.deadline_at:
            raise e
        return seconds

    def _some_circuit_closed(self, scope: RequestContext) -> bool:
        group = next(reversed(scope.calls), scope.group)
        providers = self.providers_of(group)
        return not providers or any(not self.guard.limiter(name).is_open() for name in providers)

    # The attempt

    async def make_call(self, original_function: Any, *args: Any, **kwargs: Any) -> Any:
        """One attempt, from routing to settlement."""
        scope = current_context.get()
        if scope is None:
            return await super().make_call(original_function, *args, **kwargs)
        self.guard.check_deadline(scope)
        attempt = Attempt(group=str(kwargs.get("model")))
        call = Call(scope, attempt)
        token = current_call.set(call)
        try:
            if kwargs.get("stream") is True:
                response = await self._open_stream(call, original_function, args, kwargs)
            else:
                response = await super().make_call(original_function, *args, **kwargs)
        except BaseException as error:
            self._fail(scope, attempt, error)
            raise
        finally:
            current_call.reset(token)
        return self._succeed(scope, attempt, response)

    async def _open_stream(self, call: Call, original_function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Make a streamed call, and keep its beginning to the timeout: LiteLLM does so for most vendors only."""
        call.opening = timeout = asyncio.timeout(None)
        try:
            async with timeout:
                return await super().make_call(original_function, *args, **kwargs)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise timeout_error(call.attempt.deployment, call.attempt.provider) from error
        finally:
            call.opening = None  # it knows the task, and the task's result is the stream

    def _succeed(self, scope: RequestContext, attempt: Attempt, response: Any) -> Any:
        scope.served_by = attempt
        if attempt.streaming or attempt.reservation is None:
            return response
        if iterates(type(response)):  # type: ignore[arg-type] # a type is hashable
            return self._guard_stream(scope, attempt, response)
        answer = answer_of(response)
        if answer.from_cache:
            self.guard.settle(scope, attempt, _FROM_CACHE)
        else:
            ending = AttemptResult(
                _SUCCESS, _HEALTHY, answer.usage, reported=answer.reported, response_cost=answer.cost
            )
            self.guard.settle(scope, attempt, ending)
        return response

    def _fail(self, scope: RequestContext, attempt: Attempt, error: BaseException) -> None:
        if isinstance(error, Refused) and attempt.reservation is None:
            reason = str(error).rstrip(".")
            scope.fail(attempt.group, error.provider, reason, error.retry_after, error.status_code)
            return
        if attempt.reservation is None:
            return
        passed = scope.deadline_at is not None and self.guard.clock.now() >= scope.deadline_at
        late = passed and self._is_slow(attempt)
        ending = classify_error(error, deadline_passed=late)
        if isinstance(error, GeneratorExit):  # a coroutine that is collected: see Guard.later
            self.guard.later(lambda: self.guard.settle(scope, attempt, ending))
            return
        self.guard.settle(scope, attempt, ending)
        scope.fail_attempt(attempt, ending)

    def _bill(self, operation: str, entry: Mapping[str, Any], ending: AttemptResult) -> Bill:
        return self._prices.bill(
            entry,
            ending.usage,
            ending.reported,
            response_cost=ending.response_cost,
            operation=operation,
            estimated=ending.reported is None,
        )

    # Routing: the filter and the admission

    async def async_get_available_deployment(
        self,
        model: str,
        request_kwargs: dict[str, Any],
        messages: Any = None,
        input: Any = None,  # noqa: A002 - LiteLLM's own word
        **kwargs: Any,
    ) -> Any:
        """Choose a deployment, then wait for its provider's capacity and take it."""
        prompt = messages if messages is not None else input
        call = self._begin_routing(request_kwargs, prompt)
        if call is None:
            return await super().async_get_available_deployment(model, request_kwargs, messages, input, **kwargs)
        try:
            deployment = await super().async_get_available_deployment(model, request_kwargs, messages, input, **kwargs)
        finally:
            call.routing = False
        self._choose(call, deployment, request_kwargs, prompt)
        await self.guard.admit(call.scope, call.attempt, call.demand, guessed=call.guessed)
        call.count()
        if call.opening is not None and (seconds := self._chunk_timeout(request_kwargs, call.params)) is not None:
            call.opening.reschedule(asyncio.get_running_loop().time() + seconds)
        return deployment

    def get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,  # noqa: A002 - LiteLLM's own word
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """:meth:`async_get_available_deployment` for the synchronous calls, which have a thread to themselves."""
        prompt = messages if messages is not None else input
        call = self._begin_routing(request_kwargs or {}, prompt)
        if call is None:
            return super().get_available_deployment(model, messages, input, specific_deployment, request_kwargs)
        try:
            deployment = super().get_available_deployment(model, messages, input, specific_deployment, request_kwargs)
        finally:
            call.routing = False
        self._choose(call, deployment, request_kwargs or {}, prompt)
        self.guard.admit_blocking(call.scope, call.attempt, call.demand, guessed=call.guessed)
        call.count()
        return deployment

    def _begin_routing(self, request_kwargs: Mapping[str, Any], prompt: Any) -> Call | None:
        call = current_call.get()
        if call is None or call.attempt.reservation is not None or call.routing:
            return None  # not one of our attempts: LiteLLM asks for its own purposes
        call.routing = True
        call.estimate(request_kwargs, prompt, output_limit(request_kwargs))
        return call

    def _choose(
        self, call: Call, deployment: Mapping[str, Any], request_kwargs: Mapping[str, Any], prompt: Any
    ) -> None:
        call.params = params = deployment["litellm_params"]
        call.attempt.provider = self.provider_of(deployment)
        call.attempt.deployment = params["model"]
        call.attempt.entry = deployment
        if call.guessed and (limit := output_limit(params)) is not None:
            call.estimate(request_kwargs, prompt, limit)

    def _filter_blocked_deployments(self, healthy_deployments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """LiteLLM's last filter before it picks: keep the providers that can serve soonest."""
        deployments: list[dict[str, Any]] = super()._filter_blocked_deployments(healthy_deployments)
        call = current_call.get()
        if call is None or not call.routing or len(deployments) < 2:
            return deployments
        providers = {self.provider_of(deployment) for deployment in deployments}
        if len(providers) < 2:
            return deployments
        preferred = self.guard.preferred(call.scope, call.attempt.group, providers, call.demand)
        return [deployment for deployment in deployments if self.provider_of(deployment) in preferred]

    def provider_of(self, deployment: Mapping[str, Any]) -> str:
        """The provider whose limits and breaker a deployment of this router is under."""
        key = (deployment.get("model_info") or {}).get("id")
        provider = self._providers.get(key) if key is not None else None
        if provider is None:
            provider = requests.provider_of(deployment)
            if key is not None:
                self._providers[key] = provider
        return provider

    # What the limiter replaces

    async def increment_deployment_usage_for_response(
        self, response: object, request_kwargs: dict[str, object]
    ) -> None:
        """LiteLLM's own usage counting, only where LiteLLM's own limits or strategies read it."""
        if self._counts_usage():
            await super().increment_deployment_usage_for_response(response, request_kwargs)

    async def _increment_deployment_usage(self, **kwargs: Any) -> str | None:
        return await super()._increment_deployment_usage(**kwargs) if self._counts_usage() else None

    def _counts_usage(self) -> bool:
        return self.routing_strategy != "simple-shuffle" or bool(self.optional_callbacks)

    def _drop_own_tracking(self) -> None:
        """Leave out what LiteLLM counts after each call for its cooldowns and limits, where neither is on."""
        if self._counts_usage() or not self.disable_cooldowns:
            return
        for name in ("_async_success_callback", "success_callback", "_async_failure_callback", "failure_callback"):
            litellm.logging_callback_manager.remove_callback_from_list_by_object(getattr(litellm, name), self)
        self.cooldown_cache.__class__ = _NoCooldowns
