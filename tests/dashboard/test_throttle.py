"""Wrong tokens are limited by address, and throttle no other address."""

from __future__ import annotations

import pytest

from wallie_litellm.dashboard import throttle as limits
from wallie_litellm.dashboard.throttle import MOST_WRONG, MOST_WRONG_IN_ALL, WINDOW, Throttle


class Wall:
    def __init__(self) -> None:
        self.at = 1_790_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def throttle(wall: Wall) -> Throttle:
    return Throttle(wall)


def guess(throttle: Throttle, address: str, times: int = MOST_WRONG) -> None:
    for _ in range(times):
        throttle.wrong(address)


def test_the_window_begins_with_the_first_wrong_token_and_ends_after_it(throttle: Throttle, wall: Wall) -> None:
    guess(throttle, "192.0.2.7", 1)
    wall.at += 50
    guess(throttle, "192.0.2.7", MOST_WRONG - 2)
    assert throttle.wait("192.0.2.7") is None
    guess(throttle, "192.0.2.7", 1)
    assert throttle.wait("192.0.2.7") == 10
    wall.at += 9.5
    assert throttle.wait("192.0.2.7") == 1
    wall.at += 0.5
    assert throttle.wait("192.0.2.7") is None


def test_a_new_window_counts_anew(throttle: Throttle, wall: Wall) -> None:
    guess(throttle, "192.0.2.7")
    wall.at += WINDOW
    guess(throttle, "192.0.2.7", MOST_WRONG - 1)
    assert throttle.wait("192.0.2.7") is None


def test_a_clock_that_is_set_back_does_not_make_the_wait_longer(throttle: Throttle, wall: Wall) -> None:
    guess(throttle, "192.0.2.7")
    wall.at -= 3600
    assert throttle.wait("192.0.2.7") is None
    guess(throttle, "192.0.2.7")
    assert throttle.wait("192.0.2.7") == WINDOW


@pytest.mark.parametrize("other", ["::ffff:192.0.2.8", "192.0.2.8", "::1"])
def test_ipv4_addresses_on_a_dual_stack_socket_are_distinct(throttle: Throttle, other: str) -> None:
    guess(throttle, "::ffff:192.0.2.7")
    assert throttle.wait("::ffff:192.0.2.7") == WINDOW
    assert throttle.wait("192.0.2.7") == WINDOW  # the same host
    assert throttle.wait(other) is None


@pytest.mark.parametrize("address", ["unknown", "", "fe80::1%eth0", "é", "1.2.3.4.5"])
def test_any_address_can_be_counted(throttle: Throttle, address: str) -> None:
    guess(throttle, address)
    assert throttle.wait(address) == WINDOW


def test_many_guessing_addresses_throttle_only_themselves(throttle: Throttle, wall: Wall) -> None:
    for number in range(MOST_WRONG_IN_ALL):
        throttle.wrong(f"198.51.{number // 250}.{number % 250}")
    assert throttle.wait("198.51.0.0") == WINDOW
    assert throttle.wait("192.0.2.7") is None
    wall.at += WINDOW
    assert throttle.wait("198.51.0.0") is None


def test_the_address_whose_wrong_token_is_oldest_is_dropped_first(
    throttle: Throttle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_ADDRESSES", 2)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        guess(throttle, address)
    assert [throttle.wait(f"192.0.2.{last}") for last in (1, 2, 3)] == [None, WINDOW, WINDOW]
