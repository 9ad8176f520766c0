"""What the answers of one model say holds for that model; what fails all of them holds for their provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest
from drop_in.routers import our_router
from drop_in.upstream import Fault, Upstream
from fake_clock import FakeClock
from recording import RecordingBus
from support import assert_nothing_leaked, messages, until

from wallie_litellm import CircuitOpen
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import ONE_REQUEST, Demand, Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.errors import RateLimited
from wallie_litellm.events import BreakerChanged, HealthChanged, OperatorActed, ProviderDown
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt
from wallie_litellm.limiter.models import MOST_MODELS
from wallie_litellm.limiter.recent_calls import CALLED_LATELY

MakeGuard = Callable[..., Guard]
SERVED: Final = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)
FAILED: Final = AttemptResult(
    Outcome.REJECTED, Verdict.FAILURE, reason="HTTP 503", status_code=503, fault=FaultDomain.PROVIDER
)
TIMED_OUT: Final = AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="timeout", fault=FaultDomain.PROVIDER)
MISSING: Final = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason="HTTP 404", fault=FaultDomain.MODEL)
UNREACHED: Final = AttemptResult(Outcome.NOT_SENT, Verdict.FAILURE, reason="refused", fault=FaultDomain.PROVIDER)
REFUSED: Final = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason="HTTP 401", fault=FaultDomain.ACCOUNT)
KEYS: Final = ("openai#aaaaaaaa", "openai#bbbbbbbb")
ONE_FAILURE: Final[dict[str, Any]] = {"failures": 1}


async def begin(guard: Guard, model: str, account: str = "openai", demand: Demand = ONE_REQUEST) -> Attempt:
    attempt = Attempt(model, "openai", account, f"{account}|{model}", model, f"{account} {model}")
    await guard.admit(guard.open_context(model), attempt, demand)
    return attempt


def end(guard: Guard, attempt: Attempt, result: AttemptResult) -> None:
    guard.settle(guard.open_context(attempt.group), attempt, result)


async def call(guard: Guard, model: str, result: AttemptResult, account: str = "openai") -> None:
    end(guard, await begin(guard, model, account), result)


def provider(guard: Guard) -> dict[str, Any]:
    found: dict[str, Any] = guard.status()["providers"]["openai"]
    return found


def models(guard: Guard) -> dict[str, str]:
    """The states of the breakers of the models that status lists."""
    return {name: one["breaker"]["state"] for name, one in provider(guard).get("models", {}).items()}


def overall(guard: Guard) -> tuple[str, str]:
    own = provider(guard)
    return own["breaker"]["state"], own["health"]


# Whose breaker it is


@pytest.mark.parametrize("result", [FAILED, TIMED_OUT, MISSING], ids=["a 503", "a timeout", "no such model"])
async def test_what_a_models_answers_say_holds_for_that_model(make_guard: MakeGuard, result: AttemptResult) -> None:
    guard = make_guard()
    await call(guard, "b", SERVED)
    for _ in range(5):
        await call(guard, "a", result)
    with pytest.raises(CircuitOpen, match="openai's circuit for a is open") as raised:
        await begin(guard, "a")
    assert (raised.value.provider, raised.value.retry_after) == ("openai", 10)
    await call(guard, "b", SERVED)
    assert (models(guard), overall(guard)) == ({"a": "open"}, ("closed", "degraded"))
    assert (guard.is_open("openai|a"), guard.is_open("openai|b")) == (True, False)
    assert guard.is_provider_available("openai")
    assert not guard.should_switch_provider("openai")


@pytest.mark.parametrize("result", [UNREACHED, REFUSED], ids=["no connection", "a refused key"])
async def test_what_fails_every_model_holds_for_the_provider(make_guard: MakeGuard, result: AttemptResult) -> None:
    guard = make_guard()
    for model in "aabab":
        await call(guard, model, result)
    with pytest.raises(CircuitOpen, match=r"openai's circuit is open \("):
        await begin(guard, "c")
    assert (models(guard), overall(guard)) == ({}, ("open", "down"))


async def test_of_several_keys_a_models_breaker_is_that_of_one(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    for key in KEYS:
        guard.meet("openai", key, at_own_address=True)
    await call(guard, "b", SERVED, KEYS[0])
    await call(guard, "a", FAILED, KEYS[0])
    assert [guard.is_open(f"{key}|{model}") for key in KEYS for model in "ab"] == [True, False, False, False]
    await call(guard, "b", REFUSED, KEYS[1])
    assert [guard.is_open(f"{key}|{model}") for key in KEYS for model in "ab"] == [True, False, True, True]
    shown = [one["breaker"]["state"] for one in provider(guard)["accounts"].values()]
    assert (shown, overall(guard)) == (["closed", "open"], ("closed", "degraded"))


async def test_a_breaker_per_provider_counts_the_failures_of_all_models(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker={"per": "provider"})
    for model in "ab":
        for result in (FAILED, TIMED_OUT):
            await call(guard, model, result)
        await call(guard, model, MISSING)
    await call(guard, "c", FAILED)
    with pytest.raises(CircuitOpen, match=r"openai's circuit is open \(HTTP 503\)"):
        await begin(guard, "c")
    assert models(guard) == {}


async def test_a_rate_of_errors_is_that_of_a_models_calls(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker={"failures": 100, "error_rate": 0.5, "min_calls": 10})
    for _ in range(6):
        await call(guard, "a", SERVED)
        await call(guard, "b", SERVED)
    for _ in range(5):
        await call(guard, "a", FAILED)
    assert overall(guard) == ("closed", "degraded")
    await call(guard, "a", FAILED)
    assert models(guard) == {"a": "open"}


async def test_another_deployment_of_the_model_that_serves_answers_for_it(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    broken, other = await begin(guard, "a"), await begin(guard, "a")
    other.deployment_id = "another"
    clock.advance(1)
    end(guard, other, SERVED)
    end(guard, broken, FAILED)
    assert models(guard) == {}


# A provider's state


async def test_a_provider_is_open_when_each_of_its_models_called_lately_is(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    await call(guard, "old", SERVED)
    clock.advance(CALLED_LATELY)
    await call(guard, "a", SERVED)
    await call(guard, "b", FAILED)
    assert overall(guard) == ("closed", "degraded")
    await call(guard, "a", FAILED)
    assert overall(guard) == ("open", "down")
    assert provider(guard)["breaker"]["next_probe_in"] == 10
    assert not guard.is_provider_available("openai")
    assert guard.should_switch_provider("openai")
    with pytest.raises(CircuitOpen, match="is open") as raised:
        await guard.wait_for_capacity("openai")
    assert raised.value.retry_after == 10
    clock.advance(10)
    assert guard.is_provider_available("openai")
    (await guard.wait_for_capacity("openai")).release()
    probe = await begin(guard, "a")
    assert overall(guard) == ("half_open", "degraded")
    end(guard, probe, SERVED)
    assert (models(guard), overall(guard)) == ({"b": "open"}, ("closed", "degraded"))
    await call(guard, "b", SERVED)
    assert (models(guard), overall(guard)) == ({}, ("closed", "healthy"))


async def test_capacity_is_not_waited_for_where_all_models_of_each_key_are_open(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    for key in KEYS:
        guard.meet("openai", key, at_own_address=True, scope=f"{key}|a")
    await call(guard, "a", FAILED, KEYS[0])
    (await guard.wait_for_capacity("openai")).release()
    clock.advance(2)
    await call(guard, "a", FAILED, KEYS[1])
    assert not guard.is_provider_available("openai")
    with pytest.raises(CircuitOpen, match="is open") as raised:
        await guard.wait_for_capacity("openai")
    assert (raised.value.provider, raised.value.retry_after) == ("openai", 8)
    clock.advance(8)
    (await guard.wait_for_capacity("openai")).release()


async def test_a_model_that_an_operator_holds_open_stays_so_whatever_models_callers_invent(
    make_guard: MakeGuard,
) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    guard.meet("openai", "openai", at_own_address=True, scope="openai|a")
    guard.open_circuit("openai", model="a")
    for number in range(MOST_MODELS):
        await call(guard, f"invented-{number}", MISSING)
    assert models(guard)["a"] == "forced_open"


async def test_a_model_that_is_not_called_any_more_says_nothing_of_its_provider(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard(breaker={"failures": 2})
    await call(guard, "a", FAILED)
    assert overall(guard) == ("closed", "degraded")
    clock.advance(CALLED_LATELY + 1)
    assert overall(guard) == ("closed", "healthy")


async def test_events_of_a_breaker_name_its_model_and_a_provider_is_down_with_all_of_them(
    make_guard: MakeGuard, bus: RecordingBus
) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    await call(guard, "b", SERVED)
    await call(guard, "a", FAILED)
    await call(guard, "b", FAILED)
    changes = [(event.provider, event.model, event.before, event.after) for event in bus.of(BreakerChanged)]
    assert changes == [("openai", "a", "closed", "open"), ("openai", "b", "closed", "open")]
    health = [(event.model, event.before, event.status) for event in bus.of(HealthChanged)]
    assert health == [
        ("a", "healthy", "down"),
        (None, "healthy", "degraded"),
        ("b", "healthy", "down"),
        (None, "degraded", "down"),
    ]
    assert [(event.provider, event.model) for event in bus.of(ProviderDown)] == [("openai", "a"), ("openai", None)]


# Probes


async def test_half_open_admits_one_probe_of_the_model(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    for model in "ab":
        await call(guard, model, FAILED)
    clock.advance(10)
    probe = await begin(guard, "a")
    with pytest.raises(CircuitOpen):
        await begin(guard, "a")
    await call(guard, "b", SERVED)  # its own probe
    end(guard, probe, FAILED)
    assert (models(guard), provider(guard)["models"]["a"]["breaker"]["next_probe_in"]) == ({"a": "open"}, 20)


async def test_a_probe_that_its_provider_does_not_admit_leaves_its_permit(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpm": 1}}, admission={"max_wait": "1s"}, breaker=ONE_FAILURE)
    await call(guard, "a", FAILED)
    clock.advance(60)
    await call(guard, "b", SERVED)
    with pytest.raises(RateLimited):
        await begin(guard, "a")
    clock.advance(60)
    await call(guard, "a", SERVED)
    assert models(guard) == {}


async def test_a_model_and_its_provider_are_probed_by_the_same_call(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    await call(guard, "a", FAILED)
    await call(guard, "b", UNREACHED)
    clock.advance(10)
    blocking = await begin(guard, "b")
    with pytest.raises(CircuitOpen, match=r"openai's circuit is open \("):
        await begin(guard, "a")  # the provider's only permit is taken: the model's goes back
    end(guard, blocking, AttemptResult(Outcome.CUT))
    probe = await begin(guard, "a")
    for model in "ab":
        with pytest.raises(CircuitOpen):
            await begin(guard, model)
    end(guard, probe, SERVED)
    assert (models(guard), overall(guard)) == ({}, ("closed", "healthy"))


async def test_a_probe_whose_permit_is_lost_in_the_providers_queue_is_not_sent(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard(
        {"openai": {"concurrency": 1}}, admission={"max_wait": "5m"}, breaker={"failures": 1, "open_for": "10s"}
    )
    await call(guard, "a", FAILED)
    holding = await begin(guard, "b")
    clock.advance(10)
    waiting = asyncio.create_task(begin(guard, "a"))
    await until(lambda: guard.limiter("openai").state().waiting == 1)
    clock.advance(11)
    end(guard, holding, SERVED)
    with pytest.raises(CircuitOpen):
        await waiting
    await call(guard, "a", SERVED)
    assert guard.limiter("openai").in_flight == 0


# Results that come late


async def test_failures_of_calls_from_before_the_first_failure_count(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker={"failures": 3})
    under_way = [await begin(guard, "a") for _ in range(3)]
    for attempt in under_way:
        end(guard, attempt, FAILED)
    assert models(guard) == {"a": "open"}


async def test_a_success_of_a_call_from_before_the_first_failure_counts(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker={"failures": 2})
    slow = await begin(guard, "a")
    await call(guard, "a", FAILED)
    end(guard, slow, SERVED)
    await call(guard, "a", FAILED)
    assert models(guard) == {"a": "closed"}


@pytest.mark.parametrize("late", [FAILED, SERVED], ids=["failed", "served"])
async def test_a_result_from_before_the_last_transition_changes_nothing(
    make_guard: MakeGuard, clock: FakeClock, late: AttemptResult
) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    olds = [await begin(guard, "a") for _ in range(3)]
    clock.advance(1)
    await call(guard, "a", FAILED)
    end(guard, olds[0], late)
    assert models(guard) == {"a": "open"}
    clock.advance(10)
    probe = await begin(guard, "a")
    end(guard, olds[1], late)
    assert models(guard) == {"a": "half_open"}
    end(guard, probe, SERVED)
    clock.advance(1)
    await call(guard, "a", SERVED)  # the limiter is given up
    assert "openai|a" not in [limiter.name for limiter in guard.limiters()]
    end(guard, olds[2], late)
    assert models(guard) == {}
    await call(guard, "a", FAILED)
    assert models(guard) == {"a": "open"}


async def test_a_model_without_failures_has_no_limiter(make_guard: MakeGuard) -> None:
    guard = make_guard()
    await call(guard, "a", SERVED)
    before = len(guard.limiters())
    await call(guard, "a", FAILED)
    under_way = await begin(guard, "a")
    assert len(guard.limiters()) == before + 1
    await call(guard, "a", SERVED)
    assert (await begin(guard, "a")).model_reservation is None  # though a call that passed it is under way
    end(guard, under_way, SERVED)
    await call(guard, "a", SERVED)
    assert len(guard.limiters()) == before


# Requests that wait


async def test_requests_that_wait_for_the_provider_leave_when_their_model_opens(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"concurrency": 2}}, breaker=ONE_FAILURE)
    under_way = [await begin(guard, "a"), await begin(guard, "b")]
    waiting = [asyncio.create_task(begin(guard, model)) for model in "ab"]
    await until(lambda: guard.limiter("openai").state().waiting == 2)
    clock.advance(1)
    await guard_settles(guard, under_way[0], FAILED, clock)
    with pytest.raises(CircuitOpen, match="openai's circuit for a is open"):
        await waiting[0]
    end(guard, await waiting[1], SERVED)
    end(guard, under_way[1], SERVED)
    assert guard.limiter("openai").in_flight == 0


async def test_a_model_that_opens_just_before_a_request_for_it_begins_to_wait_ends_the_wait(
    make_guard: MakeGuard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = make_guard({"openai": {"concurrency": 1}})
    await call(guard, "a", SERVED)
    under_way = await begin(guard, "b")
    limiter = guard.limiter("openai")
    reserve = limiter.reserve

    def reserve_and_open(*arguments: Any) -> Any:
        denial = reserve(*arguments)
        guard.open_circuit("openai", model="a")  # as another thread may
        return denial

    monkeypatch.setattr(limiter, "reserve", reserve_and_open)
    waiting = asyncio.create_task(begin(guard, "a"))
    await until(lambda: limiter.state().waiting == 1 or waiting.done())
    clock.advance(0)
    with pytest.raises(CircuitOpen, match="openai's circuit for a is open"):
        await asyncio.wait_for(waiting, 10)
    end(guard, under_way, SERVED)


async def guard_settles(guard: Guard, attempt: Attempt, result: AttemptResult, clock: FakeClock) -> None:
    end(guard, attempt, result)
    clock.advance(0)  # timers that are due
    await asyncio.sleep(0)


# An operator's actions


async def test_an_operators_actions_on_a_provider_reach_its_models(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(breaker=ONE_FAILURE)
    await call(guard, "a", FAILED)
    guard.close_circuit("openai")
    assert models(guard) == {}
    guard.open_circuit("openai")
    with pytest.raises(CircuitOpen):
        await begin(guard, "a")
    guard.release_circuit("openai")
    await call(guard, "a", SERVED)
    assert overall(guard) == ("closed", "healthy")


async def test_an_operator_may_act_on_one_model(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    for model in ("a", "b"):
        await call(guard, model, SERVED)
    guard.open_circuit("openai", "ann", "too dear", model="openai/a")
    with pytest.raises(CircuitOpen, match="forced open by the operator") as raised:
        await begin(guard, "a")
    assert raised.value.retry_after == 10
    await call(guard, "b", SERVED)
    assert models(guard) == {"a": "forced_open"}
    guard.release_circuit("openai", model="a")
    await call(guard, "a", FAILED)
    assert models(guard) == {"a": "open"}
    guard.close_circuit("openai", model="a")
    await call(guard, "a", SERVED)
    acted = [(event.action, event.model) for event in bus.of(OperatorActed)]
    assert acted == [("open_circuit", "openai/a"), ("release_circuit", "a"), ("close_circuit", "a")]
    with pytest.raises(ValueError, match="unknown model 'c' of openai; known: a, b"):
        guard.open_circuit("openai", model="c")


# Over HTTP


def deployment(upstream: Upstream, group: str, model: str) -> dict[str, Any]:
    params = {"model": f"openai/{model}", "api_base": upstream.base(model) + "/v1", "api_key": "sk-one"}
    return {"model_name": group, "litellm_params": params, "model_info": {"id": group}}


async def test_the_fallback_at_the_same_provider_serves_while_the_primary_answers_503_for_a_minute(
    upstream: Upstream, clock: FakeClock
) -> None:
    upstream.prepare({"a": [Fault(503), ...]})
    deployments = [deployment(upstream, "primary", "a"), deployment(upstream, "fallback", "b")]
    chain = [{"primary": ["fallback"]}]
    async with our_router(deployments, 0, {"breaker": {}}, clock, fallbacks=chain) as router:
        answers = []
        for second in range(90):
            if second == 60:
                upstream.prepare({})
            answer = await router.acompletion("primary", messages())
            answers.append(answer.choices[0].message.content)
            if second == 59:
                reached = [request.account for request in upstream.requests].count("a")
            clock.advance(1)
        assert_nothing_leaked(router)
    assert set(answers[:60]) == {"from b"}
    assert reached <= 8  # five open it; then the probes
    back = answers.index("from a")
    assert back < 90
    assert set(answers[back:]) == {"from a"}


async def test_eight_requests_at_once_are_served_by_the_fallback_at_the_same_provider(upstream: Upstream) -> None:
    upstream.prepare({"a": [Fault(503), ...]})
    deployments = [deployment(upstream, "primary", "a"), deployment(upstream, "fallback", "b")]
    chain = [{"primary": ["fallback"]}]
    async with our_router(deployments, 3, {"breaker": {}}, fallbacks=chain) as router:
        asked = [router.acompletion("primary", messages()) for _ in range(8)]
        answers = await asyncio.gather(*asked)
        assert [answer.choices[0].message.content for answer in answers] == ["from b"] * 8
        assert router.guard.status()["providers"]["openai"]["health"] == "degraded"


# Models that a wildcard lets through


@pytest.fixture
def open_guard(make_guard: MakeGuard) -> Guard:
    """A guard whose router names one model of openai, and has a wildcard besides."""
    guard = make_guard(breaker=ONE_FAILURE)
    guard.call_only([("openai", "openai", True)])
    guard.meet("openai", "openai", True, "openai|named", "named")
    return guard


def alerts(bus: RecordingBus) -> list[str | None]:
    return [event.model for event in bus.of(ProviderDown)]


async def test_a_model_that_callers_invent_is_no_outage(open_guard: Guard, bus: RecordingBus) -> None:
    for number in range(5):
        await call(open_guard, f"invented-{number}", MISSING)
    assert alerts(bus) == []
    assert overall(open_guard) == ("closed", "degraded")
    await call(open_guard, "named", MISSING)
    assert alerts(bus) == [None]
    assert overall(open_guard) == ("open", "down")


async def test_models_that_no_router_names_are_one_outage(
    open_guard: Guard, bus: RecordingBus, clock: FakeClock
) -> None:
    await call(open_guard, "named", SERVED)
    for _ in range(2):
        for number in range(3):
            await call(open_guard, f"unnamed-{number}", SERVED)
        for number in range(3):
            await call(open_guard, f"unnamed-{number}", FAILED)
        clock.advance(60)
    assert alerts(bus) == ["unnamed-0", "unnamed-0"]
