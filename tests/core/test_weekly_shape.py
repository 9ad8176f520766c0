"""The weekly shape: what is usual of a day, and what is to come of one that has begun."""

from __future__ import annotations

import pytest
from forecast_support import WEEKDAY, day, weeks

from wallie_litellm.core.local_day import SLOTS
from wallie_litellm.core.weekly_shape import WeeklyShape

NOON = SLOTS / 2


def test_a_day_like_the_weeks_before_ends_as_its_weekday_usually_does() -> None:
    rest = WeeklyShape([*weeks(4), day(100)]).rest(NOON, 60)  # a Tuesday

    assert rest.expected == pytest.approx(60)


def test_steady_growth_is_followed() -> None:
    shape = WeeklyShape(weeks(5, growth=1.10))

    assert shape.usual(shape.present)[0] == pytest.approx(100 * 1.10**5)


def test_of_a_surprise_that_earlier_days_had_too_half_goes_on_in_the_rest() -> None:
    history = weeks(5)
    for number in (22, 24, 29, 31, 33):
        history[number] = day(WEEKDAY[number % 7] * 1.5)

    rest = WeeklyShape(history).rest(NOON, 50 * 1.21)

    assert rest.expected == pytest.approx(50 * 1.1, rel=0.02)


def test_one_day_out_of_shape_does_not_change_what_is_usual() -> None:
    history = weeks(5)
    history[-7] = day(1_000, mornings=0.95)

    shape = WeeklyShape(history)

    assert shape.usual(shape.present)[0] == pytest.approx(100)
    assert shape.usual(shape.present)[1][48] == pytest.approx(0.5)


def test_a_batch_job_widens_the_interval_to_both_that_it_is_over_and_that_it_goes_on() -> None:
    shape = WeeklyShape(weeks(5))
    usual, surprised = shape.rest(NOON, 50), shape.rest(NOON, 150)

    assert surprised.expected < usual.expected * 1.1  # it is not taken for a day three times as busy
    assert surprised.low <= usual.expected  # it is over
    assert surprised.high >= 3 * usual.expected * 0.95  # it goes on
    assert surprised.high - surprised.low > 10 * (usual.high - usual.low)


def test_the_interval_is_as_wide_as_the_forecasts_of_the_last_weeks_were_wrong() -> None:
    calm, noisy = weeks(5), weeks(5)
    for number, slots in enumerate(noisy):
        noisy[number] = [*slots[:48], *(units * (1.3 if number % 2 else 0.7) for units in slots[48:])]

    narrow, wide = WeeklyShape(calm).rest(NOON, 50), WeeklyShape(noisy).rest(NOON, 50)

    assert narrow.high / narrow.low < 1.01
    assert wide.high / wide.low > 1.5


def test_a_weekday_without_any_use_has_no_shape() -> None:
    history = [day(100 if number % 7 else 0) for number in range(28)]

    assert not WeeklyShape(history).is_known
    assert WeeklyShape([*history, day(0)]).is_known
    assert not WeeklyShape(history[:6]).is_known  # less than a week
