"""``WallieRouter``: a LiteLLM Router by interface, with the request loop and the guard around every call.

It holds a ``litellm.Router`` and passes on what it does not guard: names, deployments and strategies are LiteLLM's. The
order of composition is

    chain( retry( breaker( limiter( provider call ))))
"""

from __future__ import annotations

import inspect
import logging
import os
import weakref
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import Any, Final

from wallie_litellm.config.changes import ConfigChange
from wallie_litellm.config.differences import IGNORED
from wallie_litellm.core.operations import CHAT, EXECUTE
from wallie_litellm.errors import WallieError
from wallie_litellm.guard.attached import Attached
from wallie_litellm.guard.attempt_stream import AttemptStream
from wallie_litellm.guard.attempts import Attempts
from wallie_litellm.guard.batch import BatchCalls
from wallie_litellm.guard.cached_requests import CachedRequests
from wallie_litellm.guard.chain import stated_chain
from wallie_litellm.guard.configured_chains import ConfiguredChains
from wallie_litellm.guard.context import Caller, RequestContext, Route
from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.live_config import Prepared, Reloaded
from wallie_litellm.guard.planner import Planner, planner_of
from wallie_litellm.guard.prices import Prices
from wallie_litellm.guard.refusal_log import log_refusal
from wallie_litellm.guard.request import Request, Target
from wallie_litellm.guard.request_loop import OWN_CHAINS, Chains, RequestLoop
from wallie_litellm.guard.request_stream import RequestStream
from wallie_litellm.guard.router_view import RouterView
from wallie_litellm.guard.tier_names import TierNames
from wallie_litellm.litellm_adapter.calls import DeploymentCalls
from wallie_litellm.litellm_adapter.endpoints import ASYNC, SYNC, Endpoint
from wallie_litellm.litellm_adapter.errors import failure_from
from wallie_litellm.litellm_adapter.inner_router import (
    CHANGES,
    InnerRouter,
    chat_of,
    make_router,
    retire,
    router_class,
    router_of_file,
    settings_in,
)
from wallie_litellm.litellm_adapter.metadata import tags_of
from wallie_litellm.litellm_adapter.mock_faults import MOCK_FAULTS, take_mock_fault
from wallie_litellm.litellm_adapter.openai_errors import as_openai_error
from wallie_litellm.litellm_adapter.router_arguments import changed_arguments
from wallie_litellm.litellm_adapter.selection import take_part
from wallie_litellm.litellm_adapter.sole_picks import SolePicks
from wallie_litellm.routing.plan import Plan

logger = logging.getLogger(__name__)

_CHAT, _CHAT_BLOCKING = ASYNC["acompletion"], SYNC["completion"]
_EXECUTE: Final = Endpoint("execute", EXECUTE, prompt="messages")


class _LikeRouter(ABCMeta):
    """Class attributes that ``WallieRouter`` does not have are those of LiteLLM's Router."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(router_class(), name)


class WallieRouter(BatchCalls, metaclass=_LikeRouter):
    """A ``litellm.Router`` that waits for capacity, keeps away from dead providers and walks its chains in order.

    Takes ``guard`` besides LiteLLM's own arguments; without one, it builds its own from the defaults and closes it when
    it is dropped. May be used with ``async with``.
    """

    #: The guard of routers that are built without one: the proxy builds its router by LiteLLM's arguments alone.
    default_guard: Guard | None = None

    guard: Guard
    view: RouterView
    _inner: InnerRouter
    _tiers: TierNames
    _calls: DeploymentCalls
    _picks: SolePicks
    _attempts: Attempts
    _chains: ConfiguredChains
    _planner: Planner
    _cached: CachedRequests
    _attached: Attached
    _arguments: Mapping[str, Any]  # those that LiteLLM's Router was built with
    _overridden: frozenset[str] | None  # of them, those that the file does not decide on; None where it decides on none
    _from_file: frozenset[str]  # ids of the deployments that the Router was built with

    def __init__(self, *args: Any, guard: Guard | None = None, **kwargs: Any) -> None:
        settings = {name: value for name, value in kwargs.items() if name not in IGNORED}
        _warn_of_ignored(name for name in IGNORED if kwargs.get(name) and name != "num_retries")
        stated = {"model_list": args[0], **settings} if args else settings
        self._take(make_router(*args, **settings), stated, guard)

    @classmethod
    def from_config(cls, config: Any, *args: Any) -> WallieRouter:
        """A router from LiteLLM's own ``RouterConfig``, as LiteLLM's proxy builds it since 1.109."""
        arguments = {name: value for name, value in config.arguments.items() if name not in IGNORED}
        return cls(**arguments)

    def _take(self, router: Any, settings: Mapping[str, Any], guard: Guard | None) -> None:
        owned = guard is None and self.default_guard is None
        own = self.__dict__
        own["guard"] = guard = guard or self.default_guard or Guard()
        own["_overridden"] = None
        own["_attached"] = attached = Attached(guard, close=owned)
        self._use(router, settings)
        self._wire()
        guard.on_close(attached.discard)
        take_part(self)
        weakref.finalize(self, attached.drop).atexit = False
        if guard.live is not None:
            guard.live.follow(self)

    def _use(self, router: Any, settings: Mapping[str, Any]) -> None:
        """Have ``router``, which was built with these ``settings``, pick and call from now on."""
        own, names = self.__dict__, TierNames(self.guard.routing.tiers).first_groups
        own["_arguments"] = settings
        own["_inner"] = inner = InnerRouter(router, self.guard.meet, names)
        own["_calls"] = calls = DeploymentCalls(inner, settings)
        own["_picks"] = SolePicks(inner, calls)
        own["_from_file"] = inner.ids()

    def _wire(self) -> None:
        """Put the parts together that go by the guard's routing: requests that begin from now on go by these."""
        own, guard, inner, before = self.__dict__, self.guard, self._inner, self.__dict__.get("_attempts")
        tiers = TierNames(guard.routing.tiers)
        inner.use_names(tiers.first_groups)
        chains = ConfiguredChains(inner, tiers)
        described, prices = (inner.scopes_of, inner.destinations, inner.first_of, inner.groups), Prices()
        view = RouterView(chains.names_after, inner.providers_of, prices, *described, prices.quote)
        inner.destinations()
        own |= {
            "_tiers": tiers,
            "_chains": chains,
            "_attempts": Attempts(guard, inner, self._calls, self._picks, before),
            "_cached": CachedRequests(guard, inner),
            "_planner": planner_of(guard, chains.after, view),
            "view": view,
        }
        self._attached.replace(view, inner)

    # The file

    def follow_file(self, overridden: Collection[str] = ()) -> None:
        """Have what is LiteLLM's in the guard's file hold here after reloads, but for the arguments ``overridden``."""
        self.__dict__["_overridden"] = frozenset(overridden)

    def reload(self, actor: str = "app", detail: str | None = None) -> Reloaded:
        """:meth:`Guard.reload`: take up the changed file without ending a request.

        Raises:
            ConfigError: it cannot be used, every problem is listed. What is in force stays so.
        """
        return self.guard.reload(actor=actor, detail=detail)

    def prepare_reload(self, change: ConfigChange) -> Prepared:
        """Build LiteLLM's Router anew, where the file has changed what is its.

        Raises:
            ConfigError: LiteLLM refuses.
        """
        if self._overridden is None or not change.is_litellms:
            return Prepared(self._follow)
        given = changed_arguments(self._arguments, change, self.get_valid_args(), self._overridden, os.environ)
        given["model_list"] = [*(given.get("model_list") or ()), *self._inner.deployments_beside(self._from_file)]
        router = router_of_file(change.new.path, given)
        return Prepared(partial(self._change_to, router, given), partial(retire, router))

    def _change_to(self, router: Any, arguments: Mapping[str, Any]) -> None:
        before = self._inner
        self._use(router, arguments)
        self.guard.place(self._inner.places())
        self._follow()
        before.discard()  # requests under way go on with it

    def _follow(self) -> None:
        self._wire()
        self.guard.routers_changed()

    # LiteLLM's Router

    @property  # type: ignore[misc] # `object` has it read-write
    def __class__(self) -> type:  # other libraries ask whether this is LiteLLM's Router
        return router_class()

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("_inner")
        if inner is None:  # not made yet
            raise AttributeError(name)
        value = getattr(inner.router, name)
        if name == "chat":
            return chat_of(value, self)
        if name == "discard":
            return inner.discard
        if name in ASYNC:
            return partial(self._call, ASYNC[name])
        if name == "aget_responses":
            return partial(self._attempts.background.get, self.view)
        if name in SYNC:
            return partial(self._call_blocking, SYNC[name])
        return self._noting_changes(name, value) if name in CHANGES else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner.router, name, value)
        self._changed({name: value})

    def __delattr__(self, name: str) -> None:
        delattr(self._inner.router, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self._inner.router)})

    def _noting_changes(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """One of the Router's methods that change it: what is kept of it is read anew afterwards."""

        def begin(args: Any, kwargs: Any) -> Mapping[str, Any]:
            settings = kwargs if name == "update_settings" else settings_in(args, kwargs)
            _warn_of_ignored(setting for setting in IGNORED if setting in settings)
            if name in ("set_custom_routing_strategy", "register_plugin"):
                self._calls.use_own_strategy()
            return settings

        if inspect.iscoroutinefunction(method):

            @wraps(method)
            async def changing(*args: Any, **kwargs: Any) -> Any:
                settings = begin(args, kwargs)
                try:
                    return await method(*args, **kwargs)
                finally:
                    self._changed(settings)

            return changing

        @wraps(method)
        def changing_at_once(*args: Any, **kwargs: Any) -> Any:
            settings = begin(args, kwargs)
            try:
                return method(*args, **{key: value for key, value in kwargs.items() if key not in IGNORED})
            finally:
                self._changed(settings)

        return changing_at_once

    def _changed(self, settings: Mapping[str, Any]) -> None:
        self._inner.changed()
        self._calls.change(settings)
        self._picks.changed()
        self._chains.changed()
        self._planner.changed()
        self.guard.routers_changed()

    # What is asked of the router beside calls

    def providers_of(self, group: str) -> frozenset[str]:
        """The providers behind a model group, or behind the first one of a tier."""
        return self._inner.providers_of(group)

    def provider_of(self, deployment: Mapping[str, Any]) -> str:
        """The provider whose limits and breaker a deployment of this router is under."""
        return self._inner.provider_of(deployment)

    def chain_of(self, group: str, fallbacks: Any = None) -> Sequence[str]:
        """The groups tried after ``group``: those a request brings along, else its tier's or those of the config."""
        members = self._chains.after(group) if fallbacks is None else stated_chain(group, fallbacks)
        return [member.group for member in members]

    async def aclose(self) -> None:
        """Close the guard, and take the Router's hooks out of LiteLLM. Idempotent."""
        await self.guard.aclose()

    async def __aenter__(self) -> WallieRouter:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # DeploymentCalls

    async def acompletion(
        self, model: str | None = None, messages: Any = None, stream: bool = False, **kwargs: Any
    ) -> Any:
        """LiteLLM's ``Router.acompletion``, guarded; ``model`` may be left out where the feature has a tier."""
        return await self.request(_CHAT, model, {"messages": messages, "stream": stream, **kwargs})

    def completion(self, model: str | None = None, messages: Any = None, **kwargs: Any) -> Any:
        """LiteLLM's ``Router.completion``, guarded; ``model`` may be left out where the feature has a tier."""
        return self.request_blocking(_CHAT_BLOCKING, model, {"messages": messages, **kwargs})

    async def _call(self, endpoint: Endpoint, /, *args: Any, **kwargs: Any) -> Any:
        arguments = endpoint.arguments(args, kwargs)
        model = arguments.pop("model", None)
        if not self._serves(model, arguments):
            # LiteLLM's Router may know another way, by the id in a file's or an answer's name for example.
            return await getattr(self._inner.router, endpoint.name)(*args, **kwargs)
        return await self.request(endpoint, None if model is None else str(model), arguments)

    def _call_blocking(self, endpoint: Endpoint, /, *args: Any, **kwargs: Any) -> Any:
        arguments = endpoint.arguments(args, kwargs)
        model = arguments.pop("model", None)
        if not self._serves(model, arguments):
            return getattr(self._inner.router, endpoint.name)(*args, **kwargs)
        return self.request_blocking(endpoint, None if model is None else str(model), arguments)

    def _serves(self, model: Any, arguments: Mapping[str, Any]) -> bool:
        """Whether a call is for a group of this router, or for a tier."""
        if model is not None and self._inner.serves(str(model)):
            return True
        return self._tiers.tier_for(model, arguments) is not None

    async def opened_chat(self, model: str | None, arguments: dict[str, Any], context: RequestContext) -> Any:
        """:meth:`acompletion` for a request that has been opened."""
        return await self.request(_CHAT, model, arguments, context)

    async def execute(
        self,
        model: str | None,
        execute: Callable[[Target], Awaitable[Any]],
        context: RequestContext,
        metadata: dict[str, Any],
    ) -> Any:
        """A call of the application's own along ``model``'s chain."""
        return await self.request(_EXECUTE, model, {"metadata": metadata}, context, execute)

    async def request(
        self,
        endpoint: Endpoint,
        model: str | None,
        arguments: dict[str, Any],
        context: RequestContext | None = None,
        execute: Callable[[Target], Awaitable[Any]] | None = None,
    ) -> Any:
        """One request along its chain: the answer, or a stream of it.

        Raises:
            WallieError: a refusal, an exhausted chain or a missed deadline.
            Exception: the provider's own error, as LiteLLM raises it.
        """
        request = self._open(endpoint, model, arguments, context, execute)
        plan = request.context.route.plan
        given = context is None and plan is not None and plan.experiment is not None
        if given and not await self._may_have_arms(request):
            request = self._open(endpoint, model, {**arguments, "experiment": False}, None, execute)
            plan = request.context.route.plan
        if plan is not None and plan.tier is not None:
            await self._check_access(request)
        if request.context.rules.cache is None or execute is not None:
            return await self._serve(request)
        return await self._cached.serve(request, self._serve)

    async def _serve(self, request: Request) -> Any:
        context = request.context
        try:
            response = await self._attempts.run(request, request.loop.first())
        except Exception as error:
            self.guard.end(context, failure_from(error))
            if (final := self._error_for(error)) is error:
                raise
            raise final from error
        except GeneratorExit as error:  # a coroutine that is collected: see Guard.later
            failure = failure_from(error)
            self.guard.later(lambda: self.guard.end(context, failure))
            raise
        except BaseException as error:
            self.guard.end(context, failure_from(error))
            raise
        if isinstance(response, AttemptStream):
            return await self._deliver(
                RequestStream(request, self._attempts, response, self._attempts.add_headers, self._error_for)
            )
        self.guard.end(context)
        self._attempts.add_headers(request.context, response)
        return response

    def request_blocking(self, endpoint: Endpoint, model: str | None, arguments: dict[str, Any]) -> Any:
        """:meth:`request` for code without an event loop."""
        request = self._open(endpoint, model, arguments)
        if request.context.rules.cache is None:
            return self._serve_blocking(request)
        return self._cached.serve_blocking(request, self._serve_blocking)

    def _serve_blocking(self, request: Request) -> Any:
        try:
            response = self._attempts.run_blocking(request, request.loop.first())
        except BaseException as error:
            self.guard.end(request.context, failure_from(error))
            if not isinstance(error, Exception) or (final := self._error_for(error)) is error:
                raise
            raise final from error
        if isinstance(response, AttemptStream):
            return RequestStream(request, self._attempts, response, self._attempts.add_headers, self._error_for)
        self.guard.end(request.context)
        self._attempts.add_headers(request.context, response)
        return response

    async def _check_access(self, request: Request) -> None:
        """Whether the caller may use the tier that the request is for: an application may use all of its own."""

    async def _may_have_arms(self, request: Request) -> bool:
        """Whether the caller may use the arms of the request's experiment: an application may use all."""
        return True

    async def _deliver(self, stream: RequestStream) -> Any:
        return stream

    def _error_for(self, error: Exception) -> Exception:
        """The error that the caller receives: ours can be caught as OpenAI's, of the fitting kind."""
        return as_openai_error(log_refusal(error)) if isinstance(error, WallieError) else error

    def open_context(
        self,
        model: str | None,
        arguments: Mapping[str, Any],
        caller: Caller,
        stated: Mapping[str, Any],
        **settings: Any,
    ) -> RequestContext:
        """Begin a request where its plan says; ``settings`` are those of :meth:`Guard.open_context`."""
        operation, streams = settings.get("operation", CHAT), settings.get("stream") is True
        plan = self._plan(model, arguments, caller, stated, operation, streams=streams)
        tags = caller._asdict()
        return self.guard.open_context(plan.group, chain=(), router=self.view, plan=plan, **tags, **settings)

    def _plan(self, *asked: Any, streams: bool) -> Plan:
        try:
            return self._planner.plan(*asked, streams=streams)
        except WallieError as error:
            raise self._error_for(error) from error

    def _open(
        self,
        endpoint: Endpoint,
        model: str | None,
        arguments: dict[str, Any],
        context: RequestContext | None = None,
        execute: Callable[[Target], Awaitable[Any]] | None = None,
    ) -> Request:
        """A request with its rules, from the arguments of a call; those that are not for the provider are taken out."""
        arguments = dict(arguments)
        stated: dict[str, Any] = {}
        mock_fault = None
        if not _SAYS_HOW.isdisjoint(arguments):
            mock_fault = take_mock_fault(arguments)
            stated = {name: arguments.pop(name) for name in _NOT_SENT.intersection(arguments)}
        self._tiers.take_stated(arguments, stated)
        retries, priority = stated.get("num_retries"), stated.get("priority")
        if context is None:
            caller = Caller(*tags_of(arguments))
            operation = endpoint.operation_of(arguments)
            streams = endpoint.streams or arguments.get("stream") is True
            plan = self._plan(model, arguments, caller, stated, operation, streams=streams)
            context = self.guard.begin(
                plan.group,
                Route((), self.view, plan),
                caller,
                operation,
                stream=streams,
                priority=-priority if isinstance(priority, int) else None,  # LiteLLM's 0 is its highest
            )
        disabled = stated.get("disable_fallbacks") is True
        members = () if context.route.plan is None else context.route.plan.members
        own = _NO_CHAINS if disabled else self._tiers.in_groups(stated, OWN_CHAINS)
        chains = Chains(members, own, self._chains.own)
        most = self.guard.config.retry.max_retries
        most = min(most, retries) if isinstance(retries, int) and not isinstance(retries, bool) else most
        loop = RequestLoop(context, chains, self.guard, self._inner, max(0, most), mock_fault)
        hedge = stated.get("hedge") is not False
        return Request(context, endpoint, loop, arguments, stated.get("first_token"), execute, hedge)


_NO_CHAINS: Final[Mapping[str, Any]] = dict.fromkeys(OWN_CHAINS, ())
# Arguments of a call that say how it is made, and are not for the provider.
_NOT_SENT: Final = frozenset(
    {
        "disable_fallbacks", "experiment", "fallback_depth", "fallbacks", "first_token", "hedge",
        "include_fallback_errors", "max_fallbacks", "num_retries", "priority", "retry_policy", *OWN_CHAINS,
    }
)  # fmt: skip
_SAYS_HOW: Final = _NOT_SENT | MOCK_FAULTS


def _warn_of_ignored(names: Iterator[str]) -> None:
    for name in names:
        logger.warning("router_settings.%s is ignored: wallie.retry is the only authority for retries", name)
