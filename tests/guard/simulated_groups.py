"""The real router, request loop and guard over simulated groups, in simulated time.

Groups stand in the place of LiteLLM's Router (``SimulatedGroups``) and of its calls (``SimulatedCalls``); an event loop
whose time is a :class:`FakeClock`'s runs the coroutines, and the blocking way waits on the same clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import selectors
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import httpx
import litellm
from fake_clock import FakeClock
from litellm.types.router import RouterRateLimitErrorBasic
from recording import RecordingBus

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.destinations import Destination
from wallie_litellm.events import Ended, Settled
from wallie_litellm.guard import Guard, admission, attempts
from wallie_litellm.guard.attempts import Attempts
from wallie_litellm.guard.configured_chains import ConfiguredChains
from wallie_litellm.guard.context import Caller, RequestContext
from wallie_litellm.guard.planner import Planner
from wallie_litellm.guard.router import WallieRouter
from wallie_litellm.guard.router_view import RouterView
from wallie_litellm.guard.tier_names import TierNames
from wallie_litellm.litellm_adapter.calls import Timeouts
from wallie_litellm.litellm_adapter.endpoints import ASYNC, SYNC
from wallie_litellm.litellm_adapter.inner_router import FALLBACKS
from wallie_litellm.litellm_adapter.selection import current_selection, take_part
from wallie_litellm.litellm_adapter.sole_picks import SolePicks

EXAMPLES = 40  # of each property; more find no more in a suite that runs often
FOR_EVER = 1e6  # seconds that a provider takes to answer when it never does
CLOSE = 1e-6  # seconds by which simulated time may be late


class Call(NamedTuple):
    """The answer to one call: its ``kind``, and how many seconds it takes. ``after`` is a Retry-After in seconds."""

    kind: str
    takes: float = 0.0
    after: int | None = None


SUCCESS = Call("success")
STATUSES: Mapping[str, tuple[int, type[Exception]]] = {
    "400": (400, litellm.BadRequestError),
    "401": (401, litellm.AuthenticationError),
    "404": (404, litellm.NotFoundError),
    "429": (429, litellm.RateLimitError),
    "500": (500, litellm.InternalServerError),
    "503": (503, litellm.ServiceUnavailableError),
    "context window": (400, litellm.ContextWindowExceededError),
    "content policy": (400, litellm.ContentPolicyViolationError),
}
STREAMS = ("stream", "stream cut", "stream silent", "stream broken")


def error_of(call: Call) -> Exception:
    """The exception with which LiteLLM reports a provider's answer."""
    if call.kind == "timeout":
        return litellm.Timeout("no answer", model="m", llm_provider="openai")
    if call.kind == "refused":
        error: Exception = litellm.APIConnectionError("refused", llm_provider="openai", model="m")
        error.__cause__ = httpx.ConnectError("refused")
        return error
    if call.kind == "reset":
        error = litellm.APIConnectionError("reset", llm_provider="openai", model="m")
        error.__cause__ = httpx.ReadError("reset")
        return error
    status, kind = STATUSES[call.kind]
    headers = {"x-request-id": "1", **({"retry-after": str(call.after)} if call.after is not None else {})}
    response = httpx.Response(status, headers=headers, request=_REQUEST)
    return kind(message=f"HTTP {status}", model="m", llm_provider="openai", response=response)  # type: ignore[call-arg]


_REQUEST = httpx.Request("POST", "https://simulated.invalid")


class Made(NamedTuple):
    """A call that was made, as the simulated providers saw it. Times are seconds of the clock."""

    group: str
    deployment: str
    provider: str
    call: Call
    at: float


@dataclass
class Answered:
    """A call and its end; ``others`` are the later members that could serve once it was settled."""

    made: Made
    at: float
    ended: str
    others: tuple[str, ...] = ()

    @property
    def timed_out(self) -> bool:
        """Whether the provider did not answer in time."""
        return self.ended in ("timeout", "cut short")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a fake clock's: where it would wait, the clock moves on instead."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.rounds, self.longest = 0, 20_000
        self.on_round: Callable[[int], object] | None = None
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.clock.now()

    def restart(self, clock: FakeClock) -> None:
        """Begin anew with another clock."""
        self.clock, self.rounds, self.on_round = clock, 0, None


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        loop = self._loop
        loop.rounds += 1
        assert loop.rounds < loop.longest, "the request does not end"
        if loop.on_round is not None:
            loop.on_round(loop.rounds)
        if ready := super().select(0):
            return ready
        if timeout is None or timeout > 0:
            move_on(loop.clock, timeout)
        return super().select(0)


def move_on(clock: FakeClock, longest: float | None) -> None:
    """Let the time pass to the clock's next timer, but ``longest`` seconds at most."""
    ahead = next_timer(clock)
    if ahead is None and longest is None:
        raise AssertionError("nothing that is waited for will ever happen")
    seconds = min(one for one in (ahead, longest) if one is not None)
    clock.advance(max(seconds, 0.0) + CLOSE / 1000)


def next_timer(clock: FakeClock) -> float | None:
    """Seconds to the clock's next timer."""
    armed = [when for when, _, cell in clock._timers if cell]
    return min(armed) - clock.now() if armed else None


def _wait_on(clock: FakeClock) -> Any:
    """``threading``'s events for one thread that waits on ``clock``."""

    class Event:
        def __init__(self) -> None:
            self._set = False

        def set(self) -> None:
            self._set = True

        def wait(self) -> None:
            for _ in range(20_000):
                if self._set:
                    return
                move_on(clock, None)
            raise AssertionError("the request does not end")

    return SimpleNamespace(Event=Event)


class Group(NamedTuple):
    """A model group: its deployments as (id, provider, order or None), those that LiteLLM's tags leave out of a pick,
    and whether the caller may use it."""

    deployments: Sequence[tuple[str, str, int | None]]
    left_out: frozenset[str] = frozenset()
    allowed: bool = True


class SimulatedGroups:
    """In the place of ``InnerRouter``: groups of deployments, and LiteLLM's pick among them."""

    def __init__(
        self,
        groups: Mapping[str, Group],
        fallbacks: Mapping[str, Any],
        turn: Callable[[int], int],
        log: list[tuple[str, str]],
    ) -> None:
        self.groups = groups
        self._log = log
        self.router = SimpleNamespace()
        self._fallbacks = fallbacks
        self._turn = turn
        self._entries = {
            name: tuple(
                {
                    "model_name": name,
                    "litellm_params": {"model": f"{provider}/m", **({} if order is None else {"order": order})},
                    "model_info": {
                        "id": key,
                        "wallie_provider": provider,
                        "supports_assistant_prefill": key[-1] != "1",
                    },
                }
                for key, provider, order in group.deployments
            )
            for name, group in groups.items()
        }

    def serves(self, model: str) -> bool:
        return model in self.groups

    def fallbacks(self) -> Mapping[str, Any]:
        return {name: self._fallbacks.get(name) for name in FALLBACKS}

    def deployments_of(self, group: str) -> Sequence[Mapping[str, Any]]:
        return self._entries.get(group, ())

    def provider_of(self, deployment: Mapping[str, Any]) -> str:
        return str(deployment["model_info"]["wallie_provider"])

    def scope_of(self, deployment: Mapping[str, Any]) -> str:
        return self.provider_of(deployment)

    def destination_of(self, deployment: Mapping[str, Any]) -> Destination:
        provider = self.provider_of(deployment)
        return Destination(provider, provider, is_vendors_own=False)

    def providers_of(self, group: str) -> frozenset[str]:
        return frozenset(map(self.provider_of, self.deployments_of(group)))

    async def may_fall_back(self, group: str, request: Mapping[str, Any], *, granted: bool = False) -> bool:
        await asyncio.sleep(0)
        return self.groups[group].allowed

    async def pick(self, group: str, request: Any, messages: Any, prompt: Any) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        return self.pick_blocking(group, request, messages, prompt)

    def pick_blocking(self, group: str, request: Any, messages: Any, prompt: Any) -> Mapping[str, Any]:
        self._log.append(("pick", group))
        selection = current_selection.get()
        assert selection is not None, "the package's filter is not in force"
        kept = selection.keep(list(self._entries[group]))  # type: ignore[arg-type]
        left = [one for one in kept if one["model_info"]["id"] not in self.groups[group].left_out]
        orders = [one["litellm_params"]["order"] for one in left if "order" in one["litellm_params"]]
        if orders:
            left = [one for one in left if one["litellm_params"].get("order") == min(orders)]
        if not left:
            raise RouterRateLimitErrorBasic(model=group)
        return left[self._turn(len(left))]


class SimulatedCalls:
    """In the place of ``DeploymentCalls``: each call ends as the script has it, and then with a success."""

    shuffles_only: Final = False  # every pick is asked for

    def __init__(self, clock: FakeClock, script: Sequence[Call], log: list[tuple[str, str]]) -> None:
        self.timeouts = Timeouts()
        self.made: list[Answered] = []
        self._clock = clock
        self._script = iter(script)
        self._log = log

    async def call(self, _endpoint: Any, group: str, deployment: Mapping[str, Any], arguments: Any, _: Any) -> Any:
        answered = self._begin(group, deployment, streams=arguments.get("stream") is True)
        call = answered.made.call
        try:
            await asyncio.sleep(call.takes)
            return self._end(answered)
        finally:
            self._note(answered)

    def call_blocking(self, _endpoint: Any, group: str, deployment: Mapping[str, Any], arguments: Any, _: Any) -> Any:
        answered = self._begin(group, deployment, streams=arguments.get("stream") is True)
        call = answered.made.call
        try:
            bound = arguments.get("timeout")
            if bound is not None and call.takes > bound:
                self._clock.advance(bound)
                raise litellm.Timeout("no answer", model="m", llm_provider="openai")
            self._clock.advance(call.takes)
            return self._end(answered)
        finally:
            self._note(answered)

    def _begin(self, group: str, deployment: Mapping[str, Any], *, streams: bool) -> Answered:
        info = deployment["model_info"]
        call = next(self._script, SUCCESS)
        if streams and call.kind == "success":
            call = call._replace(kind="stream")
        elif not streams and call.kind in STREAMS:
            call = call._replace(kind="success")
        made = Made(group, info["id"], info["wallie_provider"], call, self._clock.now())
        self.made.append(Answered(made, self._clock.now(), "under way"))
        self._log.append(("call", group))
        return self.made[-1]

    def _end(self, answered: Answered) -> Any:
        call = answered.made.call
        if call.kind == "success":
            answered.ended = "success"
            return {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
        if call.kind in STREAMS:
            answered.ended = "stream"
            return SimulatedStream(call, self._clock, answered)
        answered.ended = call.kind
        raise error_of(call)

    def _note(self, answered: Answered) -> None:
        answered.at = self._clock.now()
        if answered.ended == "under way":
            answered.ended = "cut short"


class SimulatedStream:
    """A provider's stream of chat chunks; ``kind`` says how it ends."""

    chunks: Sequence[Any] = ()

    def __init__(self, call: Call, clock: FakeClock, answered: Answered) -> None:
        self.closed = False
        self._clock = clock
        self._answered = answered
        self._kind = call.kind
        self._left = iter(
            {
                "stream": ["", "a", "b", None],
                "stream cut": ["", "a"],
                "stream silent": ["", FOR_EVER],
                "stream broken": ["", litellm.InternalServerError("broken", "openai", "m")],
            }[call.kind]
        )

    def __aiter__(self) -> SimulatedStream:
        return self

    def __iter__(self) -> SimulatedStream:
        return self

    async def __anext__(self) -> Any:
        item = next(self._left, self)
        if item is self:
            raise StopAsyncIteration
        try:
            await asyncio.sleep(item if isinstance(item, float) else 0.5)
        except asyncio.CancelledError:
            self._answered.at, self._answered.ended = self._clock.now(), "cut short"
            raise
        return self._chunk(item)

    def __next__(self) -> Any:
        item = next(self._left, self)
        if item is self:
            raise StopIteration
        self._clock.advance(item if isinstance(item, float) else 0.5)
        return self._chunk(item)

    async def aclose(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def _chunk(self, item: Any) -> Any:
        self._answered.at = self._clock.now()
        if isinstance(item, Exception):
            self._answered.ended = "500"
            raise item
        if item is None:
            self._answered.ended = "success"
            return {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        return {"choices": [{"delta": {"content": item}}]}


@dataclass
class World:
    """One request's groups, clock, guard and router, and what happened to it."""

    groups: Mapping[str, Group]
    script: Sequence[Call] = ()
    fallbacks: Mapping[str, Any] = field(default_factory=dict)
    wallie: tuple[tuple[str, Any], ...] = ()
    first: str = "a"
    turn: Callable[[int], int] = lambda _count: 0

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.bus = RecordingBus()
        self.guard = Guard(config_of(self.wallie), clock=self.clock, bus=self.bus)
        self.log: list[tuple[str, str]] = []  # picks, calls and sleeps, in order, with the group
        self.inner = SimulatedGroups(self.groups, self.fallbacks, self.turn, self.log)
        self.calls = SimulatedCalls(self.clock, self.script, self.log)
        self.context: RequestContext | None = None
        self.started_at = self.clock.now()
        self.router = _router(self.guard, self.inner, self.calls)
        self.failed: BaseException | None = None
        self._watch()

    def _watch(self) -> None:
        """Note the sleeps, and which members could serve after each attempt."""
        guard, settle, sleep = self.guard, self.guard.settle, self.guard.sleep

        def settling(context: Any, attempt: Any, result: Any) -> bool:
            settled = settle(context, attempt, result)
            self.made[-1].others = self.others(attempt.group)
            return settled

        async def sleeping(seconds: float) -> None:
            self.log.append(("sleep", ""))
            await sleep(seconds)

        guard.settle, guard.sleep = settling, sleeping  # type: ignore[method-assign]

    @property
    def made(self) -> list[Answered]:
        """The calls, in order."""
        return self.calls.made

    @property
    def chain(self) -> list[str]:
        """The first group and those after it."""
        return [self.first, *self.router.chain_of(self.first)]

    def others(self, group: str) -> tuple[str, ...]:
        """The members after ``group`` that could serve now."""
        assert self.context is not None
        later = [one for one in self.context.remaining(group) if self.groups[one].allowed]
        return tuple(
            one for one in later if any(self.guard.could_serve(scope, _ANY) for scope in self.inner.providers_of(one))
        )

    def open(
        self, deadline: float | None = None, stream: bool = False, feature: str | None = None, **stated: Any
    ) -> RequestContext:
        """Open the request."""
        caller = Caller(feature)
        self.context = self.router.open_context(
            self.first, {}, caller, stated, deadline=deadline, estimated_tokens=7, stream=stream
        )
        return self.context

    async def ask(self, *, stream: bool = False, **more: Any) -> Any:
        """The request, read to its end where it is a stream; its error is kept."""
        context = self.context or self.open(stream=stream, **more)
        arguments = {"messages": [], **({"stream": True} if stream else {}), **more}
        try:
            answer = await self.router.request(ASYNC["acompletion"], self.first, arguments, context)
            return [chunk async for chunk in answer] if hasattr(answer, "__aiter__") else answer
        except Exception as error:  # noqa: BLE001 - whatever the caller receives
            self.failed = error
            return None

    def ask_blocking(self, *, stream: bool = False, **more: Any) -> Any:
        """:meth:`ask` without an event loop."""
        arguments = {"messages": [], **({"stream": True} if stream else {}), **more}
        begun = self.guard.begin

        def begin(*given: Any, **settings: Any) -> RequestContext:
            self.context = begun(*given, **settings)
            self.context.estimated_tokens = 7
            return self.context

        self.guard.begin = begin  # type: ignore[method-assign]
        try:
            with waiting_on(self.clock, self.log):
                answer = self.router.request_blocking(SYNC["completion"], self.first, arguments)
                return list(answer) if hasattr(answer, "__next__") else answer
        except Exception as error:  # noqa: BLE001 - whatever the caller receives
            self.failed = error
            return None

    # What must hold, however the request has ended

    def assert_settled_once(self) -> None:
        """Each call is settled once, nothing is reserved, nothing waits, and the request has ended once."""
        for limiter in self.guard.limiters():
            state = limiter.state()
            assert (state.in_flight, state.waiting) == (0, 0), limiter.name
            for dimension, usage in state.usage.items():
                balance = usage.balance
                assert balance.reserved == balance.settled + balance.refunded, (limiter.name, dimension, balance)
        settled = [(one.provider, one.model) for one in self.bus.of(Settled)]
        made = [(one.made.provider, one.made.group) for one in self.made]
        # Of an attempt and its hedge, the one that loses is settled first.
        hedged = any(one.hedge for one in self.bus.of(Settled))
        assert (sorted(settled), len(settled)) == (sorted(made), len(made)) if hedged else settled == made
        assert len(self.bus.of(Ended)) == 1

    @property
    def ended(self) -> Ended:
        """The end of the request."""
        (one,) = self.bus.of(Ended)
        return one

    def visits(self) -> list[str]:
        """The groups that were called, each once for calls in a row."""
        found: list[str] = []
        for one in self.made:
            if found[-1:] != [one.made.group]:
                found.append(one.made.group)
        return found

    def waits(self) -> Iterator[tuple[float, Answered | None]]:
        """Seconds before each call in which none was under way, and the call."""
        before = self.started_at
        for one in self.made:
            yield one.made.at - before, one
            before = one.at


_ANY = attempts.Attempt("any").demand


@lru_cache(maxsize=512)
def _parsed(wallie: str) -> WallieConfig:
    return WallieConfig.model_validate_json(wallie)


def config_of(wallie: tuple[tuple[str, Any], ...]) -> WallieConfig:
    """A configuration whose providers have no limits but those stated; parsed once."""
    given = dict(wallie)
    providers = {name: {} for name in ("p", "q", "r", "s")}
    return _parsed(json.dumps({**given, "providers": {**providers, **given.get("providers", {})}}))


def _router(guard: Guard, inner: SimulatedGroups, calls: SimulatedCalls) -> WallieRouter:
    """The real router over simulated groups."""
    router = object.__new__(WallieRouter)
    tiers = TierNames(guard.routing.tiers)
    chains = ConfiguredChains(inner, tiers)  # type: ignore[arg-type]
    picks = SolePicks(inner, calls)  # type: ignore[arg-type]
    own: dict[str, Any] = {
        "guard": guard,
        "_tiers": tiers,
        "_inner": inner,
        "_calls": calls,
        "_picks": picks,
        "_attempts": Attempts(guard, inner, calls, picks),  # type: ignore[arg-type]
        "_chains": chains,
        "_planner": Planner(guard.routing, chains.after),
        "view": RouterView(chains.names_after, inner.providers_of),
    }
    router.__dict__.update(own)
    take_part(router)
    return router


@contextlib.contextmanager
def waiting_on(clock: FakeClock, log: list[tuple[str, str]]) -> Iterator[None]:
    """Have a blocking request wait on ``clock``: there is no other thread to move it."""
    before = attempts.time, admission.threading

    def sleep(seconds: float) -> None:
        log.append(("sleep", ""))
        clock.advance(seconds)

    attempts.time, admission.threading = SimpleNamespace(sleep=sleep), _wait_on(clock)  # type: ignore[assignment]
    try:
        yield
    finally:
        attempts.time, admission.threading = before
