"""The waits between retries."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.backoff import Backoff


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def test_the_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(uniform=middle)
    assert [backoff.seconds(retry) for retry in range(1, 8)] == [1, 2, 4, 8, 16, 16, 16]


def test_the_settings_give_the_first_wait_the_factor_and_the_cap() -> None:
    backoff = Backoff(initial=0.5, max=5, multiplier=3, uniform=middle)
    assert [backoff.seconds(retry) for retry in range(1, 5)] == [0.5, 1.5, 4.5, 5]


def test_the_jitter_is_a_quarter_to_each_side_and_never_above_the_cap() -> None:
    least = Backoff(uniform=lambda low, _: low)
    most = Backoff(uniform=lambda _, high: high)
    assert [least.seconds(retry) for retry in range(1, 6)] == [0.75, 1.5, 3, 6, 12]
    assert [most.seconds(retry) for retry in range(1, 6)] == [1.25, 2.5, 5, 10, 16]


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0.1, 10), st.floats(1, 4))
@settings(deadline=None)
def test_every_wait_is_within_its_jitter_and_the_cap(
    retry: int, jitter: float, initial: float, multiplier: float
) -> None:
    seconds = Backoff(initial, 16, multiplier, jitter).seconds(retry)
    plain = Backoff(initial, 16, multiplier, 0).seconds(retry)
    assert plain * (1 - jitter) - 1e-9 <= seconds <= min(16, plain * (1 + jitter)) + 1e-9


def test_the_waits_really_vary() -> None:
    backoff = Backoff()
    waits = {backoff.seconds(3) for _ in range(50)}
    assert len(waits) > 10
    assert all(3 <= wait <= 5 for wait in waits)


@pytest.mark.parametrize("retry", [1, 5])
def test_no_initial_wait_means_no_wait(retry: int) -> None:
    assert Backoff(initial=0).seconds(retry) == 0
