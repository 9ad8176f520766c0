"""Limits of models beside the account's: one admission takes from both or from neither, and waits in its own lane."""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import inf

import pytest
from fake_clock import FakeClock
from hypothesis import example, given, settings
from hypothesis import strategies as st
from limiter_support import (
    RecordedQueue,
    assert_scopes_hold,
    denied,
    granted,
    new_limiter,
    new_store,
    tokens,
)

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limits import ScopeLimits
from wallie_litellm.limiter.listener import Crossing
from wallie_litellm.limiter.memory_store import MemoryStore
from wallie_litellm.limiter.store import Denial, DenialReason, Reservation

OPUS, HAIKU = "opus*", "haiku"
ACCOUNT = {"tpm": 600}  # ten tokens a second
MODELS = {OPUS: ScopeLimits({"tpm": 60}), HAIKU: ScopeLimits({"rpm": 60, "rpd": 5}, {"rpm": 2})}


def limited(clock: FakeClock, models: Mapping[str, ScopeLimits] = MODELS, **account: int) -> Limiter:
    return new_limiter(clock, account or ACCOUNT, models=models)


def left(limiter: Limiter) -> dict[str, int]:
    """What admission would let through at once, by dimension and pattern."""
    state = limiter.state()
    scopes = {"": state.usage, **{pattern: own.usage for pattern, own in state.models.items()}}
    return {
        f"{name} {scope}".strip(): round(one.left) for scope, usage in scopes.items() for name, one in usage.items()
    }


def test_a_model_has_the_limits_of_the_first_pattern_that_matches_its_name() -> None:
    models = dict.fromkeys(["gpt-4o-mini", "gpt-4o*", "azure/*", "?[!a]*"], ScopeLimits({"rpm": 1}))
    limiter = limited(FakeClock(), models)
    names = ["gpt-4o-mini", "openai/gpt-4o-mini", "gpt-4o-2024", "azure/eu", "eu", "openai/GPT-4o", "a/b/c", "xa"]
    assert [limiter.scope_of(name) for name in names] == [
        "gpt-4o-mini", "gpt-4o-mini", "gpt-4o*", "azure/*", "azure/*", "?[!a]*", "?[!a]*", "azure/*",
    ]  # fmt: skip


@pytest.mark.usefixtures("every_store")
def test_an_admission_takes_from_the_account_and_from_its_model_or_from_neither() -> None:
    limiter = limited(FakeClock())
    granted(limiter.reserve(tokens(50), scope=OPUS))
    assert left(limiter) == {"tpm": 550, f"tpm {OPUS}": 10, f"rpm {HAIKU}": 2, f"rpd {HAIKU}": 5}
    denial = denied(limiter.reserve(tokens(11), scope=OPUS))
    assert denial == (DenialReason.LIMIT, pytest.approx(1.0, abs=1e-5), f"tpm@{OPUS}")
    assert (denial.dimension, denial.scope) == ("tpm", OPUS)
    granted(limiter.reserve(tokens(545)))
    assert denied(limiter.reserve(tokens(6), scope=OPUS)) == (DenialReason.LIMIT, pytest.approx(0.1, abs=1e-5), "tpm")
    assert left(limiter) == {"tpm": 5, f"tpm {OPUS}": 10, f"rpm {HAIKU}": 2, f"rpd {HAIKU}": 5}


@pytest.mark.usefixtures("every_store")
def test_a_settlement_refunds_or_charges_both() -> None:
    limiter = limited(FakeClock())
    less, more, none = (granted(limiter.reserve(tokens(10), scope=OPUS)) for _ in range(3))
    limiter.settle(less, tokens(4))
    limiter.settle(more, tokens(25))
    limiter.settle(none, NOTHING)
    assert left(limiter) == {"tpm": 571, f"tpm {OPUS}": 31, f"rpm {HAIKU}": 2, f"rpd {HAIKU}": 5}
    state = limiter.state()
    for usage in (state.usage["tpm"], state.models[OPUS].usage["tpm"]):
        assert (usage.units, usage.balance) == (29, (45, 29, 16))
    assert state.models[HAIKU].usage["rpm"].balance == (0, 0, 0)


@pytest.mark.usefixtures("every_store")
def test_a_day_of_a_model_ends_with_that_of_the_account() -> None:
    clock = FakeClock()
    limiter = limited(clock)
    for _ in range(5):
        limiter.settle(granted(limiter.reserve(tokens(1), scope=HAIKU)), tokens(1))
        clock.advance(1)
    denial = denied(limiter.reserve(tokens(1), scope=HAIKU))
    assert (denial.limit, denial.scope) == (f"rpd@{HAIKU}", HAIKU)
    clock.advance(denial.retry_after + 1)
    granted(limiter.reserve(tokens(1), scope=HAIKU))


@pytest.mark.usefixtures("every_store")
def test_calls_in_flight_are_counted_by_model_and_for_the_account() -> None:
    models = {OPUS: ScopeLimits({"concurrency": 1}), HAIKU: ScopeLimits({"concurrency": 2})}
    limiter = limited(FakeClock(), models, concurrency=3)
    opus = granted(limiter.reserve(tokens(1), scope=OPUS))
    assert denied(limiter.reserve(tokens(1), scope=OPUS))[::2] == (DenialReason.CONCURRENCY, f"concurrency@{OPUS}")
    for _ in range(2):
        granted(limiter.reserve(tokens(1), scope=HAIKU))
    assert denied(limiter.reserve(tokens(1))).limit == "concurrency"
    limiter.settle(opus, tokens(1))
    granted(limiter.reserve(tokens(1), scope=OPUS))
    state = limiter.state()
    used = [state.usage["concurrency"].used, *(own.usage["concurrency"].used for own in state.models.values())]
    assert used == [3, 1, 2]


@pytest.mark.usefixtures("every_store")
def test_a_prompt_that_is_larger_than_a_models_capacity_is_refused_at_once_and_its_output_is_cut_to_it() -> None:
    limiter = limited(FakeClock())
    assert denied(limiter.reserve(tokens(61), scope=OPUS)) == (DenialReason.TOO_LARGE, inf, f"tpm@{OPUS}")
    assert denied(limiter.reserve(tokens(601), scope=OPUS)) == (DenialReason.TOO_LARGE, inf, "tpm")
    assert (limiter.capacity("tpm"), limiter.capacity("tpm", OPUS), limiter.capacity("rpm", OPUS)) == (600, 60, inf)
    assert limiter.fit(Demand(1, 900, 40, 860), OPUS) == Demand(1, 60, 40, 860)
    granted(limiter.reserve(limiter.fit(Demand(1, 900, 40, 860), OPUS), scope=OPUS))


def test_waiters_for_one_models_limit_are_passed_by_those_of_others() -> None:
    clock = FakeClock()
    limiter = limited(clock)
    queue = RecordedQueue(clock, limiter)
    granted(limiter.reserve(tokens(60), scope=OPUS))
    opus = [queue.join(tokens(10), scope=OPUS) for _ in range(2)]
    haiku, plain = queue.join(tokens(10), scope=HAIKU), queue.join(tokens(10))
    assert queue.answered == [haiku, plain]
    granted(limiter.reserve(tokens(10), scope=HAIKU))
    assert limiter.check(tokens(10)) is None
    state = limiter.state()
    assert (state.waiting, {pattern: own.waiting for pattern, own in state.models.items()}) == (2, {OPUS: 2, HAIKU: 0})
    assert denied(limiter.reserve(tokens(1), scope=OPUS)).retry_after == pytest.approx(21)
    clock.advance(20.001)
    assert queue.answered == [haiku, plain, *opus]
    assert [round(at - 1000, 2) for at, _ in queue.admissions] == [0, 0, 10, 20]


def test_a_small_waiter_does_not_overtake_one_of_its_own_model() -> None:
    clock = FakeClock()
    limiter = limited(clock)
    queue = RecordedQueue(clock, limiter)
    granted(limiter.reserve(tokens(30), scope=OPUS))
    large, small = queue.join(tokens(60), scope=OPUS), queue.join(tokens(1), scope=OPUS)
    assert denied(limiter.reserve(tokens(1), scope=OPUS)).reason is DenialReason.LIMIT
    clock.advance(31.01)
    assert queue.answered == [large, small]


def test_waiters_for_the_accounts_limit_are_passed_by_none() -> None:
    clock = FakeClock()
    limiter = limited(clock)
    queue = RecordedQueue(clock, limiter)
    granted(limiter.reserve(tokens(600)))
    waiters = [queue.join(tokens(50), scope=OPUS), queue.join(tokens(1), scope=HAIKU), queue.join(tokens(1))]
    first = queue.join(tokens(2), priority=1, scope=HAIKU)
    assert denied(limiter.reserve(tokens(1), scope=HAIKU)).retry_after == pytest.approx(5.5)
    assert isinstance(limiter.check(tokens(1)), Denial)
    clock.advance(5.5)
    assert queue.answered == [first, *waiters]
    assert [round(at - 1000, 2) for at, _ in queue.admissions] == [0.2, 5.2, 5.3, 5.4]


def test_waiters_that_their_model_will_not_serve_in_time_are_not_counted_against_others() -> None:
    clock = FakeClock()
    limiter = limited(clock, {OPUS: ScopeLimits({"rpd": 3}), HAIKU: ScopeLimits({"rpm": 6})}, rpd=10, rpm=600)
    queue = RecordedQueue(clock, limiter)
    limiter.pause(5)
    for _ in range(50):
        queue.join(tokens(1), patience=20, scope=OPUS)
        queue.join(tokens(1), patience=20, scope=HAIKU)
    assert denied(limiter.check(tokens(1))).limit == "rpd"  # of 10, 3 and 8 are ahead
    limiter.set_limit(HAIKU, "rpd", 6)
    assert denied(limiter.check(tokens(1))) == (DenialReason.PAUSED, pytest.approx(5), None)
    assert denied(limiter.check(tokens(1), scope=OPUS)).dimension == "rpd"


def test_a_waiter_that_its_model_keeps_longer_than_the_account_does_not_hold_the_account_up_for_others() -> None:
    clock = FakeClock()
    limiter = limited(clock, {OPUS: ScopeLimits({"tpm": 60}, {"tpm": 600})})
    queue = RecordedQueue(clock, limiter)
    granted(limiter.reserve(tokens(600), scope=OPUS))
    clock.advance(40)  # the account has 400 tokens, the model 40
    opus = queue.join(tokens(500), scope=OPUS)  # the account has them in 10 s, the model in 460 s
    for _ in range(4):
        granted(limiter.reserve(tokens(100)))
    clock.advance(459)
    assert opus.result is None
    clock.advance(2)
    assert granted(opus.result).at == pytest.approx(1500, abs=0.01)


def test_a_waiter_for_a_place_among_its_models_calls_does_not_hold_the_account_up_for_others() -> None:
    clock = FakeClock()
    limiter = limited(clock, {OPUS: ScopeLimits({"concurrency": 1})})
    queue = RecordedQueue(clock, limiter)
    opus = granted(limiter.reserve(tokens(590), scope=OPUS))
    waiter, other = queue.join(tokens(60), scope=OPUS), queue.join(tokens(20))
    clock.advance(1.01)  # the account has them for the other
    assert queue.answered == [other]
    assert denied(limiter.check(tokens(1), scope=OPUS)).retry_after == pytest.approx(6.1, abs=0.1)
    limiter.settle(opus, opus.demand)
    clock.advance(6)
    assert queue.answered == [other, waiter]


@given(st.integers(0, 10_000))
@example(7)
@settings(max_examples=10, deadline=None)
def test_every_waiter_is_served_in_bounded_time_however_many_others_come(seed: int) -> None:
    """Large requests of each model, and small ones of all models without end."""
    chance, clock = random.Random(seed), FakeClock()
    limits = {OPUS: ScopeLimits({"tpm": 300}), HAIKU: ScopeLimits({"tpm": 480}), "sonnet": ScopeLimits({"tpm": 6000})}
    limiter = limited(clock, limits, tpm=600)
    queue = RecordedQueue(clock, limiter)
    limiter.consume(tokens(chance.choice([0, 300, 600])))
    scopes = ["", *limits]
    large = []
    for step in range(240):
        if step % 80 == 40:
            scope = chance.choice(scopes)
            waiter = queue.join(tokens(chance.randint(200, int(min(600, limiter.capacity("tpm", scope))))), scope=scope)
            large.append((waiter, clock.now()))
        for _ in range(chance.randint(0, 12)):  # more than the account allows
            scope, demand = chance.choice(scopes), tokens(chance.randint(1, 5))
            result = limiter.reserve(demand, scope=scope)
            if isinstance(result, Denial) and len(queue.answered) + 60 > step and result.retry_after < 20:
                queue.join(demand, patience=30, scope=scope)
        clock.advance(0.5)
    clock.advance(200)
    for waiter, since in large:
        assert isinstance(waiter.result, Reservation)
        assert waiter.result.at - since < 130  # the lines ahead, a full account, and a full limit of its model


@given(
    st.lists(st.tuples(st.sampled_from(["", OPUS, HAIKU]), st.integers(1, 300), st.integers(0, 1)), max_size=30),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_without_a_deadline_every_waiter_is_served(demands: list[tuple[str, int, int]], places: int) -> None:
    clock = FakeClock()
    limits = {OPUS: ScopeLimits({"tpm": 300, "concurrency": places}), HAIKU: ScopeLimits({"tpm": 400, "rpm": 6})}
    limiter = limited(clock, limits, tpm=600, concurrency=places + 1)
    queue = RecordedQueue(clock, limiter)
    waiters = [queue.join(tokens(amount), priority, scope=scope) for scope, amount, priority in demands]
    admissions = []
    for _ in range(3 * len(waiters) + 1):
        for waiter in queue.answered[len(admissions) :]:
            reservation = granted(waiter.result)
            admissions.append(reservation)
            limiter.settle(reservation, reservation.demand)
        clock.advance(30)
    assert len(admissions) == len(waiters)
    assert_scopes_hold([(each.at, each.demand, each.scope) for each in admissions], limiter)


def test_a_model_at_a_threshold_is_announced_by_its_pattern() -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: list[tuple[str, str, str]] = []

        def on_threshold(self, provider: str, crossing: Crossing) -> None:
            self.heard.append((crossing.scope, crossing.dimension, crossing.level))

    clock, listener = FakeClock(), Listener()
    limits = new_store(clock, ACCOUNT, models=MODELS).limits
    store = MemoryStore("openai", limits, BreakerRules(), clock.wall, {"warning": 0.8}, listener)  # type: ignore[arg-type]
    limiter = Limiter("openai", store, clock, 600)
    limiter.settle(granted(limiter.reserve(tokens(50), scope=OPUS)), tokens(50))
    for _ in range(4):
        granted(limiter.reserve(tokens(1), scope=HAIKU))
        clock.advance(1)
    assert listener.heard == [(OPUS, "tpm", "warning"), (HAIKU, "rpd", "warning")]
    assert limiter.utilization() == ("tpm", pytest.approx(54 / 600))
    assert limiter.utilization(OPUS) == (f"tpm@{OPUS}", pytest.approx(50 / 60))


@pytest.mark.usefixtures("every_store")
def test_a_reset_of_a_model_leaves_the_account_and_other_models_as_they_are() -> None:
    limiter = limited(FakeClock())
    granted(limiter.reserve(tokens(50), scope=OPUS))
    granted(limiter.reserve(tokens(50), scope=HAIKU))
    limiter.pause(30)
    limiter.reset(OPUS)
    assert left(limiter) == {"tpm": 500, f"tpm {OPUS}": 60, f"rpm {HAIKU}": 1, f"rpd {HAIKU}": 4}
    assert limiter.is_paused()
    limiter.reset()
    assert left(limiter) == {"tpm": 600, f"tpm {OPUS}": 60, f"rpm {HAIKU}": 2, f"rpd {HAIKU}": 5}
    assert not limiter.is_paused()


@pytest.mark.usefixtures("every_store")
def test_what_the_ledger_has_of_a_model_counts_in_its_own_limits_alone() -> None:
    limiter = limited(FakeClock())
    limiter.restore(tokens(90), [(1.0, tokens(90))])
    limiter.restore(Demand(3, 40, 40, 0), [(1.0, Demand(1, 40, 40, 0))], OPUS)
    limiter.restore(Demand(3, 40, 40, 0), [(1.0, Demand(1, 40, 40, 0))], HAIKU)
    assert left(limiter) == {"tpm": 520, f"tpm {OPUS}": 21, f"rpm {HAIKU}": 2, f"rpd {HAIKU}": 2}


@pytest.mark.usefixtures("every_store")
def test_usage_without_a_reservation_counts_in_the_limits_of_its_model() -> None:
    limiter = limited(FakeClock())
    limiter.consume(Demand(2, 20, 20, 0), HAIKU)
    limiter.consume(tokens(20))
    assert left(limiter) == {"tpm": 560, f"tpm {OPUS}": 60, f"rpm {HAIKU}": 0, f"rpd {HAIKU}": 3}


@pytest.mark.usefixtures("every_store")
def test_a_limit_in_force_takes_the_place_of_the_configured_one_and_what_is_missing_stays_missing() -> None:
    clock = FakeClock()
    limiter = limited(clock)
    limiter.settle(granted(limiter.reserve(tokens(30), scope=OPUS)), tokens(30))
    limiter.set_limit(OPUS, "tpm", 120)
    assert left(limiter)[f"tpm {OPUS}"] == 90
    limiter.set_limit("", "tpm", 60)
    assert left(limiter)["tpm"] == 30
    clock.advance(10)
    assert (left(limiter)["tpm"], left(limiter)[f"tpm {OPUS}"]) == (40, 110)
    assert denied(limiter.reserve(tokens(61), scope=OPUS)) == (DenialReason.TOO_LARGE, inf, "tpm")
    usage = limiter.state().usage["tpm"]
    assert (usage.limit, usage.full, usage.units) == (60, 60, 30)
    limiter.set_limit("", "tpm", None)
    assert (left(limiter)["tpm"], limiter.state().usage["tpm"].limit) == (580, 600)
    assert limiter.configured() == {
        ("", "tpm"): 600, (OPUS, "tpm"): 60, (HAIKU, "rpm"): 60, (HAIKU, "rpd"): 5,
    }  # fmt: skip


def test_a_limit_that_turns_out_smaller_than_what_was_used_of_it_is_empty_and_not_in_debt() -> None:
    clock = FakeClock()
    limiter = limited(clock)
    early = granted(limiter.reserve(tokens(50)))
    clock.advance(1)
    late = granted(limiter.reserve(tokens(500)))
    limiter.set_limit("", "tpm", 60)
    assert denied(limiter.reserve(tokens(30))).retry_after == pytest.approx(30, abs=1e-3)
    limiter.settle(early, NOTHING)  # it has been forgotten with the rest
    limiter.settle(late, tokens(440))
    assert left(limiter)["tpm"] == 60


@pytest.mark.usefixtures("every_store")
def test_a_burst_changes_with_its_limit() -> None:
    limiter = limited(FakeClock())
    limiter.set_limit(HAIKU, "rpm", 180)
    assert limiter.capacity("rpm", HAIKU) == 6
    limiter.set_limit(HAIKU, "rpm", 10)
    assert limiter.capacity("rpm", HAIKU) == 1


def test_a_waiter_is_served_at_once_where_a_larger_limit_has_room_for_it() -> None:
    clock = FakeClock()
    limiter = limited(clock)
    queue = RecordedQueue(clock, limiter)
    granted(limiter.reserve(tokens(60), scope=OPUS))
    waiter = queue.join(tokens(50), scope=OPUS)
    limiter.set_limit(OPUS, "tpm", 600)
    assert queue.answered == [waiter]


@pytest.mark.parametrize("dimension", ["tpm", "rpd", "concurrency"])
def test_a_limit_that_is_not_configured_may_be_in_force_for_a_while(dimension: str) -> None:
    clock = FakeClock()
    limiter = limited(clock, {OPUS: ScopeLimits()}, rpm=600)
    earlier = granted(limiter.reserve(tokens(100), scope=OPUS))
    limiter.set_limit(OPUS, dimension, 50)
    assert limiter.state().models[OPUS].usage[dimension].left == (49 if dimension == "concurrency" else 50)
    clock.advance(1e-6)
    granted(limiter.reserve(tokens(50), scope=OPUS))
    assert limiter.settle(earlier, tokens(20))
    usage = limiter.state().models[OPUS].usage[dimension]
    assert (round(usage.left), usage.reserved) == {"tpm": (0, 50), "rpd": (49, 0), "concurrency": (49, 0)}[dimension]
    limiter.set_limit(OPUS, dimension, None)
    assert limiter.state().models[OPUS].usage == {}
    granted(limiter.reserve(tokens(500), scope=OPUS))


@pytest.mark.usefixtures("every_store")
def test_what_the_vendor_says_is_left_lowers_a_level_and_raises_none() -> None:
    limiter = limited(FakeClock())
    limiter.settle(granted(limiter.reserve(tokens(50), scope=OPUS)), tokens(50))
    for scope, dimension, amount in [("", "tpm", 580), ("", "tpm", 300), (OPUS, "tpm", -1), (HAIKU, "rpd", 2)]:
        limiter.bound(scope, dimension, amount)
    limiter.bound(HAIKU, "concurrency", 0)  # of which there is no limit
    assert left(limiter) == {"tpm": 300, f"tpm {OPUS}": 0, f"rpm {HAIKU}": 2, f"rpd {HAIKU}": 2}
    limiter.bound(HAIKU, "rpd", 4)
    assert left(limiter)[f"rpd {HAIKU}"] == 2
