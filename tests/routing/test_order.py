"""Chains in the order of what their members take."""

from __future__ import annotations

from itertools import pairwise

import pytest
from traffic import Traffic

from wallie_litellm.routing.plan import Decided, Member, Plan, Warm


@pytest.mark.parametrize("per_second", [1.0, 2.0, 5.0, 10.0])
def test_a_member_that_becomes_five_times_slower_is_second_within_30_s_and_back_two_minutes_after(per_second):
    traffic = Traffic({"a": 0.4, "b": 0.6}, per_second=per_second, seed=1)
    traffic.run(300)
    assert traffic.order == ("a", "b")
    traffic.takes["a"] = 2.0
    traffic.run(30)
    assert traffic.order == ("b", "a")
    traffic.run(300)
    assert traffic.order == ("b", "a")
    traffic.takes["a"] = 0.4
    traffic.run(120)
    assert traffic.order == ("a", "b")


@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0])
def test_members_that_are_equal_keep_the_files_order_for_an_hour(sigma):
    traffic = Traffic({"a": 0.5, "b": 0.5, "c": 0.5}, sigma=sigma, seed=2)
    traffic.run(3600)
    assert len(traffic.changes) <= 1, traffic.changes
    assert traffic.share("a", 0) > 0.93


def test_equal_members_get_the_files_order_back():
    traffic = Traffic({"a": 0.5, "b": 0.5}, per_second=10.0)
    traffic.run(120)
    traffic.takes["a"] = 2.5
    traffic.run(60)
    assert traffic.order == ("b", "a")
    traffic.takes["a"] = 0.5
    traffic.run(120)
    assert traffic.order == ("a", "b")


def test_errors_never_look_fast():
    traffic = Traffic({"a": 1.0, "b": 1.5})
    traffic.run(120)
    traffic.fails = frozenset({"a"})
    traffic.run(30)
    assert traffic.order == ("b", "a")
    traffic.run(600)
    assert traffic.order == ("b", "a")


def test_calls_in_flight_that_say_nothing_count_before_they_end():
    traffic = Traffic({"a": 0.4, "b": 0.6})
    traffic.run(120)
    traffic.takes["a"] = 10_000.0
    traffic.run(30)
    assert traffic.order == ("b", "a")


def test_the_others_are_asked_first_now_and_then():
    traffic = Traffic({"a": 0.4, "b": 4.0})
    traffic.run(600)
    assert 0.01 <= traffic.share("b", traffic.now - 300) <= 0.03
    slow = Traffic({"a": 0.4, "b": 4.0}, per_second=0.2)
    slow.run(600)
    last = [at for at, group in slow.asked if group == "b"]
    assert all(later - earlier < 60 for earlier, later in pairwise(last))


@pytest.mark.parametrize(
    ("feature", "stated"),
    [("fixed", {}), (None, {"fallbacks": ["b"]}), (None, {"disable_fallbacks": True})],
    ids=["order: fixed", "own fallbacks", "no fallbacks"],
)
def test_a_chain_that_is_not_to_be_moved_stays(feature, stated):
    traffic = Traffic({"a": 2.0, "b": 0.2})
    traffic.run(300)
    assert traffic.order == ("b", "a")
    assert traffic.plan(feature, **stated).group == "a"


def test_an_experiments_arm_and_a_members_own_parameters_stay():
    traffic = Traffic({"a": 2.0, "b": 0.2})
    traffic.run(300)
    asked = traffic.step
    for plan in (
        Plan("a", (Member("b"),), Decided(), experiment="m"),
        Plan("a", (Member("b", {"temperature": 0}),), Decided()),
    ):
        assert asked(plan, traffic.asked_for()) is plan


def test_switched_off_it_is_as_without():
    traffic = Traffic({"a": 2.0, "b": 0.2})
    traffic.run(300)
    plan = traffic.plan()
    assert (plan.group, plan.decided.order, plan.decided.why) == ("b", "a", ["b first by latency"])
    traffic.switches.set("order", on=False)
    assert traffic.plan().group == "a"


def test_a_change_says_what_and_why():
    traffic = Traffic({"a": 2.0, "b": 0.2})
    traffic.run(300)
    [(_, change)] = traffic.changes
    assert (change.chain, change.before, change.after) == (("a", "b"), ("a", "b"), ("b", "a"))
    assert change.reason.startswith("b takes ")
    [described] = traffic.step.describe()
    assert described["reason"] == change.reason
    assert described["pace"].keys() == set(described["chain"])
    assert all(pace["seconds"] > 0 and pace["calls"] > 0 for pace in described["pace"].values())


@pytest.mark.parametrize(
    ("slower", "full", "stays"),
    [(1.7, (), True), (4.0, (), False), (1.7, ("a/m",), False)],
    ids=["a little slower", "much slower", "without room"],
)
def test_a_request_stays_with_its_warm_prefix_unless_another_is_much_faster_or_it_has_no_room(slower, full, stays):
    traffic = Traffic({"a": 1.0 * slower, "b": 1.0}, sigma=0.1)
    traffic.run(600)
    assert traffic.order == ("b", "a")
    traffic.full = frozenset(full)
    plans = []
    for _ in range(20):
        warm = Decided(warm=Warm(b"prefix", 300.0, "a/m", "a"))
        plans.append(traffic.step(Plan("a", (Member("b"),), warm), traffic.asked_for()))
    explored = sum("to see what it takes" in str(plan.decided.why) for plan in plans)
    assert sum(plan.group == "a" for plan in plans) == (20 if stays else explored)
    if stays:
        assert all(plan.decided.order is None for plan in plans)


def test_no_request_explores_a_member_that_has_no_room():
    traffic = Traffic({"a": 0.4, "b": 4.0})
    traffic.run(600)
    traffic.full = frozenset({"b/m"})
    assert {traffic.plan().group for _ in range(200)} == {"a"}


def test_a_request_that_explores_the_files_first_is_on_record_as_such():
    traffic = Traffic({"a": 2.0, "b": 0.2})
    traffic.run(300)
    assert traffic.order == ("b", "a")
    explored = [plan for plan in (traffic.plan() for _ in range(200)) if plan.group == "a"]
    assert explored
    assert all(plan.decided.why == ["a is asked to see what it takes"] for plan in explored)
    assert all(plan.decided.order is None for plan in explored)
