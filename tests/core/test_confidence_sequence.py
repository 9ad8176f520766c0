"""Intervals that hold at every look: few false winners, true differences found, one unit not counted as many."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from experiment_simulation import Draw, bernoulli, experiment, log_normal, normal

from wallie_litellm.core.confidence_sequence import FEWEST, ArmSums, add_up, difference, lower_bound, width, winner


def found(draws: tuple[Draw, Draw], runs: int, *, bounded: bool = False, share: float = 0.5, users: int = 0) -> int:
    """In how many experiments of 2,000 requests a winner is named, with a look after every 20."""
    rng = random.Random(11)
    return sum(
        experiment(rng, draws, requests=2000, bounded=bounded, share=share, users=users) is not None
        for _ in range(runs)
    )


@pytest.mark.parametrize(
    ("draw", "bounded", "share"),
    [
        (bernoulli(0.5), True, 0.5),
        (bernoulli(0.97), True, 0.1),
        (log_normal(1.5), False, 0.2),
        (normal(0.8), False, 0.5),
    ],
    ids=["success_half", "success_nearly_always_of_a_tenth", "cost_of_a_fifth", "log_latency"],
)
def test_of_two_equal_arms_at_most_one_in_twenty_wins_at_any_look(draw: Draw, bounded: bool, share: float) -> None:
    assert found((draw, draw), 100, bounded=bounded, share=share) <= 5


def test_of_two_equal_arms_by_user_at_most_one_in_twenty_wins_although_users_differ() -> None:
    assert found((normal(0.3), normal(0.3)), 100, users=60) <= 5


@pytest.mark.parametrize("shares", [(0.45, 0.55), (0.80, 0.90)])
def test_a_difference_of_ten_points_is_found_within_a_thousand_requests_an_arm(shares: tuple[float, float]) -> None:
    draws = bernoulli(shares[0]), bernoulli(shares[1])
    assert found(draws, 50, bounded=True) >= 45


def values(draw: Callable[[], float], count: int) -> ArmSums:
    return add_up((draw(), 1) for _ in range(count))


def test_there_is_no_interval_of_a_few_units() -> None:
    rng = random.Random(3)
    few, many = values(rng.random, FEWEST - 1), values(rng.random, 500)
    assert difference(few, many) is None
    assert difference(many, few) is None
    assert difference(many, values(rng.random, FEWEST)) is not None


def test_an_interval_is_around_the_difference_and_wider_for_a_smaller_error() -> None:
    rng = random.Random(3)
    one, other = values(rng.random, 400), values(lambda: rng.random() + 0.4, 400)
    usual, strict = difference(other, one), difference(other, one, 0.01)
    assert usual is not None
    assert strict is not None
    assert strict.low < usual.low < usual.estimate < usual.high < strict.high
    assert usual.estimate == pytest.approx((other.mean or 0) - (one.mean or 0))
    assert usual.estimate - usual.low == pytest.approx(usual.high - usual.estimate)


def test_it_is_wider_than_that_of_one_look_and_narrowest_for_the_number_it_is_tuned_for() -> None:
    assert 2.9 < width(1000) < 3.2
    assert width(40) > width(200) > width(1000)
    assert width(1_000_000) > width(1000) > 1.96


def test_arms_that_never_fail_differ_by_an_interval_that_is_not_empty() -> None:
    always = values(lambda: 1.0, 50)
    interval = difference(always, always, bounded=True)
    assert interval is not None
    assert interval.low < -0.01 < 0.0 < 0.01 < interval.high


def test_a_user_with_a_thousand_requests_is_not_a_thousand_users() -> None:
    rng = random.Random(5)
    arms = [[rng.random() for _ in range(40)] for _ in range(2)]
    honest = difference(*(add_up((25 * user, 25) for user in users) for users in arms))
    naive = difference(*(add_up((user, 1) for user in users for _ in range(25)) for users in arms))
    assert honest is not None
    assert naive is not None
    assert honest.high - honest.low > 2 * (naive.high - naive.low)
    assert honest.estimate == pytest.approx(naive.estimate)


def test_the_winner_is_better_than_every_other_by_more_than_epsilon() -> None:
    rng = random.Random(9)
    arms = [values(lambda mean=mean: rng.gauss(mean, 1.0), 2000) for mean in (1.0, 2.0, 3.0)]  # type: ignore[misc]
    assert winner(arms, lower_is_better=False, bounded=False) == 2
    assert winner(arms, lower_is_better=True, bounded=False) == 0
    assert winner(arms, lower_is_better=False, bounded=False, epsilon=0.5) == 2
    assert winner(arms, lower_is_better=False, bounded=False, epsilon=1.5) is None
    assert winner([*arms, arms[2]], lower_is_better=False, bounded=False) is None
    assert winner(arms[:1], lower_is_better=False, bounded=False) is None
    assert winner([arms[0], ArmSums()], lower_is_better=True, bounded=False) is None


def test_a_shares_lower_bound_nears_it_with_more_of_them() -> None:
    # R: binom::binom.confint(20, 100, methods = "wilson") begins at 0.1333669
    assert lower_bound(0.2, 100, 1.959964) == pytest.approx(0.1333669, abs=1e-6)
    assert lower_bound(0.2, 30, 3.09) < lower_bound(0.2, 300, 3.09) < 0.2
    assert lower_bound(0.0, 30, 3.09) == pytest.approx(0.0, abs=1e-12)
