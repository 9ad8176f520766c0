"""Days that a limit has ended are continued before anything is learned from them."""

from __future__ import annotations

import pytest
from forecast_support import day, weeks

from wallie_litellm.core.cut_days import shape_without

CUT = [*day(100)[:72], *[0.0] * 24]  # the limit of 75 was reached at 18:00


def test_a_day_that_its_limit_has_ended_is_continued_as_others_of_its_weekday_went_on() -> None:
    shape = shape_without(75, [*weeks(4), CUT])

    assert shape.used(28) == pytest.approx(100, rel=0.03)
    # How sum() rounds depends on the Python.
    assert shape.used(28, 70) == pytest.approx(sum(CUT[:70]), rel=1e-12)
    assert shape_without(200, [*weeks(4), CUT]).used(28) == pytest.approx(sum(CUT), rel=1e-12)


def test_a_weekday_that_is_always_ended_is_continued_as_the_other_days_went_on() -> None:
    history = weeks(4)
    history[::7] = [CUT] * 4

    assert shape_without(75, history).usual(28)[0] == pytest.approx(100, rel=0.03)


def test_a_day_that_was_used_up_in_the_night_is_not_taken_for_one_of_a_multiple_of_its_limit() -> None:
    burst = [75.0, *[0.0] * 95]

    assert shape_without(75, [*weeks(4), burst]).used(28) <= 2 * 75


def test_where_all_days_are_ended_nothing_is_made_up() -> None:
    assert shape_without(75, [CUT] * 14).used(3) == pytest.approx(75)
