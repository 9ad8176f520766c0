"""Units keep their arm, are divided by the shares, and those of a stopped arm go to the others."""

from __future__ import annotations

from collections import Counter

from wallie_litellm.core.arms import arm_of, shares_left, unit_hash
from wallie_litellm.core.chi_square import p_value

SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
USERS = [unit_hash("chat-model", f"user:{number}") for number in range(4000)]


def test_users_are_divided_by_the_shares() -> None:
    counts = Counter(arm_of(user, SHARES) for user in USERS)
    assert (p_value([counts[arm] for arm in SHARES], list(SHARES.values())) or 0) > 0.01


def test_a_user_has_the_same_arm_in_every_process() -> None:
    # As computed on another machine: a change of the hash would give users other arms in the middle of an experiment.
    assert unit_hash("chat-model", "user:u1") == "6d3cb748529b5ac2"
    assert [arm_of(user, SHARES) for user in USERS[:8]] == ["a", "a", "b", "a", "c", "b", "a", "b"]


def test_another_experiment_divides_the_same_users_otherwise() -> None:
    pairs = Counter(
        (arm_of(unit_hash("one", f"user:{number}"), {"a": 0.5, "b": 0.5}),
         arm_of(unit_hash("other", f"user:{number}"), {"a": 0.5, "b": 0.5}))
        for number in range(4000)
    )  # fmt: skip
    assert (p_value(list(pairs.values()), [0.25] * 4) or 0) > 0.01


def test_the_units_of_a_stopped_arm_go_to_the_others_by_their_shares_and_the_rest_stay() -> None:
    before = {user: arm_of(user, SHARES) for user in USERS}
    after = {user: arm_of(user, SHARES, {"b"}) for user in USERS}
    assert all(after[user] == arm for user, arm in before.items() if arm != "b")
    moved = Counter(after[user] for user, arm in before.items() if arm == "b")
    left = shares_left(SHARES, {"b"})
    assert left == {"a": 0.5 / 0.7, "c": 0.2 / 0.7}
    assert (p_value([moved[arm] for arm in left], list(left.values())) or 0) > 0.01


def test_without_a_running_arm_there_is_none() -> None:
    assert arm_of(USERS[0], SHARES, {"a", "b"}) == "c"
    assert arm_of(USERS[0], SHARES, {"a", "b", "c"}) is None
