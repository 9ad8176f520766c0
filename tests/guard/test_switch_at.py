"""``quota.switch_at``: the rest of a limit is kept while another provider can serve."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from limiter_support import tokens

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.errors import RateLimited
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt, RequestContext

MakeGuard = Callable[..., Guard]
HUNDRED = {name: {"rpm": 100} for name in ("openai", "anthropic", "gemini")}
AT_HALF = {"switch_at": 0.5}


async def admit(
    guard: Guard, group: str = "o", provider: str = "openai", context: RequestContext | None = None
) -> None:
    context = context or guard.open_context("o")
    await guard.admit(context, Attempt(group=group, provider=provider), tokens(1))


async def test_below_switch_at_the_provider_serves(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF)
    guard.update_usage("openai", 49)
    await admit(guard)


@pytest.mark.parametrize("used", [50, 99, 100, 150])
async def test_from_switch_at_on_the_next_member_of_the_chain_is_preferred(make_guard: MakeGuard, used: int) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF)
    guard.update_usage("openai", used)
    with pytest.raises(RateLimited) as caught:
        await admit(guard)
    assert str(caught.value) == (
        f"openai has used {used}% of its rpm limit, and another provider can serve (wallie.quota.switch_at is 50%)."
    )
    assert (caught.value.provider, caught.value.model, caught.value.retry_after) == ("openai", "o", 0)
    assert guard.status()["providers"]["openai"]["in_flight"] == 0
    await admit(guard, "a", "anthropic")


def test_a_blocking_request_falls_back_at_switch_at_too(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF)
    guard.update_usage("openai", 50)
    with pytest.raises(RateLimited):
        guard.admit_blocking(guard.open_context("o"), Attempt(group="o", provider="openai"), tokens(1))


async def test_without_the_setting_the_provider_serves_until_its_limit(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED)
    guard.update_usage("openai", 99)
    await admit(guard)


@pytest.mark.parametrize("others", ["open", "used up", "above the share", "too small", "none"])
async def test_the_provider_serves_when_no_other_member_can(make_guard: MakeGuard, others: str) -> None:
    small = {"tpm": 1} if others == "too small" else {"rpm": 100}
    guard = make_guard(
        {"openai": {"rpm": 100}, "anthropic": small, "gemini": small},
        chains={} if others == "none" else None,
        quota=AT_HALF,
    )
    guard.update_usage("openai", 60)
    for other in ("anthropic", "gemini"):
        if others == "open":
            guard.open_circuit(other)
        elif others in ("used up", "above the share"):
            guard.update_usage(other, 100 if others == "used up" else 50)
    await guard.admit(guard.open_context("o"), Attempt(group="o", provider="openai"), tokens(2))


async def test_a_later_member_counts_when_the_next_cannot_serve(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF)
    guard.update_usage("openai", 60)
    guard.update_usage("anthropic", 60)
    context = guard.open_context("o")
    with pytest.raises(RateLimited):
        await admit(guard, context=context)
    with pytest.raises(RateLimited):
        await admit(guard, "a", "anthropic", context)
    await admit(guard, "g", "gemini", context)


async def test_the_last_member_serves_when_all_are_above_switch_at(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF)
    for provider in HUNDRED:
        guard.update_usage(provider, 60)
    await admit(guard)
    await admit(guard, "g", "gemini")


async def test_a_capacity_lease_ignores_switch_at(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF)
    guard.update_usage("openai", 60)
    (await guard.wait_for_capacity("openai")).release()


async def test_any_limit_of_the_provider_counts(make_guard: MakeGuard) -> None:
    guard = make_guard({**HUNDRED, "openai": {"rpm": 1000, "tpd": 100, "concurrency": 50}}, quota=AT_HALF)
    guard.update_usage("openai", 1, 60)
    with pytest.raises(RateLimited, match="60% of its tpd limit"):
        await admit(guard)


async def test_a_features_limit_does_not_count_for_switch_at(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF, features={"chat": {"limits": {"rpm": 10}}})
    for _ in range(9):
        await admit(guard, context=guard.open_context("o", feature="chat"))


async def test_a_request_that_falls_back_at_switch_at_costs_its_feature_nothing(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF, features={"chat": {"limits": {"rpm": 10}}})
    guard.update_usage("openai", 60)
    context = guard.open_context("o", feature="chat")
    with pytest.raises(RateLimited):
        await admit(guard, context=context)
    assert context.feature_refusal is None
    assert guard.status()["features"]["chat"]["quota"]["rpm"]["used"] == 0


def test_among_the_deployments_of_a_group_the_less_used_is_chosen(make_guard: MakeGuard) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF)
    context, both = guard.open_context("both"), ["openai", "anthropic"]
    guard.update_usage("openai", 60)
    assert guard.preferred(context, "both", both, tokens(1)) == {"anthropic"}
    guard.update_usage("anthropic", 60)
    assert guard.preferred(context, "both", both, tokens(1)) == {"openai", "anthropic"}


def test_a_provider_above_switch_at_that_can_serve_now_is_preferred_to_one_with_a_wait(
    make_guard: MakeGuard,
) -> None:
    guard = make_guard({"openai": {"rpm": 100}, "anthropic": {"tpm": 600, "rpm": 1000}}, quota={"switch_at": 0.9})
    guard.update_usage("openai", 95)
    guard.update_usage("anthropic", 1, 500)
    both = ["openai", "anthropic"]
    assert guard.preferred(guard.open_context("both"), "both", both, tokens(200)) == {"openai"}


async def test_tokens_that_calls_in_flight_have_reserved_count_for_switch_at(make_guard: MakeGuard) -> None:
    guard = make_guard({**HUNDRED, "openai": {"tpm": 100}}, quota=AT_HALF)
    context, attempt = guard.open_context("o"), Attempt(group="o", provider="openai")
    await guard.admit(context, attempt, tokens(50))
    assert guard.status()["providers"]["openai"]["quota"]["tpm"]["utilization"] == 0
    assert guard.should_switch_provider("openai")
    with pytest.raises(RateLimited, match="50% of its tpm limit"):
        await admit(guard)
    guard.settle(context, attempt, AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS, usage=tokens(49)))
    assert not guard.should_switch_provider("openai")


@pytest.mark.parametrize(("used", "switch"), [(49, False), (50, True)])
def test_should_switch_follows_the_setting(make_guard: MakeGuard, used: int, switch: bool) -> None:
    guard = make_guard(HUNDRED, quota=AT_HALF)
    guard.update_usage("openai", used)
    assert guard.should_switch_provider("openai") is switch
    assert not guard.should_switch_provider("anthropic")
