"""Limits that several processes divide without communicating."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.dimensions import DIMENSIONS
from wallie_litellm.limiter.limits import AccountLimits

AMOUNTS = st.dictionaries(st.sampled_from([str(name) for name in DIMENSIONS]), st.integers(1, 10**9))


@given(AMOUNTS, AMOUNTS, st.integers(1, 64))
def test_all_shares_together_are_at_most_the_limit_and_nearly_all_of_it(
    stated: dict[str, int], burst: dict[str, int], processes: int
) -> None:
    share = AccountLimits(stated, burst).share(processes)
    for whole, part in ((stated, share.per_dimension), (burst, share.burst)):
        assert set(part) == set(whole)
        for dimension, amount in whole.items():
            if amount >= processes:
                assert amount - processes < part[dimension] * processes <= amount
            else:
                assert part[dimension] == 1


def test_headroom_and_time_zone_are_not_divided() -> None:
    limits = AccountLimits({"rpm": 10, "rpd": 9, "concurrency": 3}, {"rpm": 5}, 0.1, "Asia/Tokyo")
    assert limits.share(4) == AccountLimits({"rpm": 2, "rpd": 2, "concurrency": 1}, {"rpm": 1}, 0.1, "Asia/Tokyo")
    assert limits.share(1) == limits


@pytest.mark.parametrize("processes", [0, -1])
def test_a_number_of_processes_below_one_is_rejected(processes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AccountLimits({"rpm": 10}).share(processes)
