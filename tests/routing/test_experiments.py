"""Requests get the arm of their unit, the rest of the chain after it; an experiment stands where its record says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from wallie_litellm.config import ExperimentSettings
from wallie_litellm.core.chi_square import p_value
from wallie_litellm.routing.experiments import Change, ExperimentStep, Standing, standing_of
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan

ARMS = {"mini": 0.5, "sonnet": 0.5}
CHAIN = (Member("sonnet", {"temperature": 0}), Member("flash"))


def step(on: bool = True, tiers: dict[str, tuple[str, ...]] | None = None, **settings: Any) -> ExperimentStep:
    stated = ExperimentSettings.model_validate({"feature": "chat", "arms": ARMS, "metric": "cost", **settings})
    return ExperimentStep({"m": stated}, tiers or {}, {"chat": "quick"}, lambda _: on)


def asked(model: str | None = "mini", user: str | None = "u1", feature: str | None = "chat", **stated: Any) -> Asked:
    metadata = stated.pop("metadata", {})
    return Asked(model, {}, feature, user, metadata, stated, lambda _: ())


def planned(of: ExperimentStep, request: Asked, members: tuple[Member, ...] = CHAIN) -> Plan:
    return of(Plan(request.model or "quick", members, Decided()), request)


def arm(plan: Plan) -> str | None:
    assert plan.decided is not None
    return plan.decided.arm


def test_a_user_keeps_the_arm_and_users_are_divided_by_the_shares() -> None:
    first, again = step(), step()
    arms = {f"u{number}": arm(planned(first, asked(user=f"u{number}"))) for number in range(2000)}
    assert all(arm(planned(again, asked(user=user, model=None))) == given for user, given in list(arms.items())[:200])
    counts = Counter(arms.values())
    assert (p_value([counts[name] for name in ARMS], [0.5, 0.5]) or 0) > 0.01


def test_the_arm_is_asked_first_and_the_rest_of_the_chain_follows() -> None:
    plans = [planned(step(), asked(user=f"u{number}")) for number in range(20)]
    assert {(plan.group, tuple(member.group for member in plan.members)) for plan in plans} == {
        ("mini", ("sonnet", "flash")),
        ("sonnet", ("mini", "flash")),
    }
    for plan in plans:
        assert plan.decided is not None
        assert (plan.decided.experiment, plan.decided.arm) == ("m", plan.group)
        assert plan.decided.why == [f"arm {plan.group} of m by user"]


def test_a_caller_that_wants_no_fallbacks_gets_the_arm_alone() -> None:
    of = step(arms={"sonnet": 0.999999, "mini": 0.000001})
    plan = planned(of, asked(disable_fallbacks=True), ())
    assert (plan.group, plan.members) == ("sonnet", ())


def test_an_arm_may_be_a_tier_with_its_own_chain() -> None:
    tiers = {"quick": ("mini", "flash"), "good": ("opus", "sonnet")}
    of = step(tiers=tiers, arms={"quick": 0.5, "good": 0.5})
    plans = [planned(of, asked(model=model, user=f"u{n}")) for n in range(20) for model in (None, "quick", "good")]
    assert {(plan.group, plan.members[0].group, plan.decided.tier if plan.decided else None) for plan in plans} == {
        ("mini", "flash", "quick"),
        ("opus", "sonnet", "good"),
    }


@pytest.mark.parametrize(
    "request_",
    [
        asked(experiment=False),
        asked(feature="other"),
        asked(feature=None),
        asked(model="opus"),
        asked(model=None, tier="premium"),
    ],
)
def test_other_features_and_requests_for_another_model_are_left_alone(request_: Asked) -> None:
    plan = Plan(request_.model or "quick", CHAIN, Decided())
    assert step()(plan, request_) == plan
    assert plan.decided == Decided()


def test_switched_off_it_leaves_requests_alone() -> None:
    assert arm(planned(step(on=False), asked())) is None


def test_without_a_user_the_session_keeps_the_arm_and_without_a_session_nothing_does() -> None:
    of = step()
    by_session = [planned(of, asked(user=None, metadata={"session_id": f"s{n}"})) for n in range(20) for _ in range(2)]
    arms = [arm(plan) for plan in by_session]
    assert arms[::2] == arms[1::2]
    assert set(arms) == set(ARMS)
    assert all(plan.decided is not None and plan.decided.unit for plan in by_session)
    by_request = [planned(of, asked(user=None)) for _ in range(60)]
    assert {arm(plan) for plan in by_request} == set(ARMS)
    assert all(plan.decided is not None and plan.decided.unit is None for plan in by_request)
    of_requests = [planned(step(unit="request"), asked(metadata={"session_id": "s"})) for _ in range(60)]
    assert {arm(plan) for plan in of_requests} == set(ARMS)


def test_the_unit_on_record_is_no_users_name() -> None:
    decided = planned(step(), asked(user="maria@example.com")).decided
    assert decided is not None
    assert decided.unit is not None
    assert len(decided.unit) == 16
    assert "maria" not in decided.unit


def test_the_units_of_a_stopped_arm_go_to_the_others() -> None:
    of = step()
    of.by_name["m"].standing = Standing(stopped=frozenset({"sonnet"}))
    assert {planned(of, asked(user=f"u{n}")).group for n in range(20)} == {"mini"}
    of.by_name["m"].standing = Standing(stopped=frozenset(ARMS))
    assert arm(planned(of, asked())) is None


def test_the_winner_serves_every_unit_and_requests_are_no_longer_counted() -> None:
    of = step()
    of.by_name["m"].standing = Standing(winner="sonnet")
    plans = [planned(of, asked(user=f"u{n}")) for n in range(20)]
    assert {plan.group for plan in plans} == {"sonnet"}
    assert {arm(plan) for plan in plans} == {None}
    assert plans[0].decided is not None
    assert plans[0].decided.why == ["sonnet has won m"]
    assert of.describe()["m"]["state"] == "concluded"


def change(number: int, what: str, arm_: str = "", definition: str = "d1") -> Change:
    return Change(f"c{number}", float(number), definition, what, arm_, None)


def test_an_experiment_stands_where_its_record_says() -> None:
    record = [change(1, "started"), change(2, "stopped", "mini")]
    assert standing_of(record, "d1") == Standing(1.0, "c1", frozenset({"mini"}))
    assert standing_of([*record, change(3, "concluded", "sonnet")], "d1").winner == "sonnet"
    assert standing_of(record, "d2") == Standing()
    assert standing_of([], "d1") == Standing()


def test_what_a_process_has_changed_holds_before_the_ledger_has_it() -> None:
    experiment = step().by_name["m"]
    definition = experiment.settings.definition
    started, stopped = change(1, "started", definition=definition), change(2, "stopped", "mini", definition)
    experiment.note(started)
    experiment.note(stopped)
    assert experiment.standing == Standing(1.0, "c1", frozenset({"mini"}))
    experiment.learn([started])
    assert experiment.standing.stopped == {"mini"}
    experiment.learn([started, stopped, change(3, "concluded", "sonnet", definition)])
    assert (experiment.standing.winner, experiment.standing.state) == ("sonnet", "concluded")


def test_what_a_clock_that_is_behind_changes_comes_after_what_is_known() -> None:
    experiment = step().by_name["m"]
    definition = experiment.settings.definition
    assert experiment.time_of_change(70.0) == 70.0
    experiment.learn([change(90, "started", definition="d0"), change(100, "started", definition=definition)])
    at = experiment.time_of_change(70.0)
    experiment.note(Change("c0", at, definition, "stopped", "mini"))
    assert experiment.standing == Standing(100.0, "c100", frozenset({"mini"}))
    assert experiment.time_of_change(at) > at
    assert experiment.time_of_change(200.0) == 200.0


def test_with_another_definition_it_begins_anew() -> None:
    record = [
        change(1, "started"), change(2, "stopped", "mini"), change(3, "started", definition="d2"),
        change(4, "stopped", "sonnet"), change(5, "stopped", "flash", "d2"),
    ]  # fmt: skip
    assert standing_of(record, "d2") == Standing(3.0, "c3", frozenset({"flash"}))
    assert standing_of([*record, change(6, "started")], "d1") == Standing(6.0, "c6")


def test_a_definition_is_what_the_measurement_rests_on() -> None:
    def definition(**changes: Any) -> str:
        stated = {"feature": "chat", "arms": ARMS, "metric": "cost", **changes}
        return ExperimentSettings.model_validate(stated).definition

    assert definition() == definition(metric="latency") == definition(stop_arm_above={"error_rate": 0.1})
    others = [definition(arms={"mini": 0.4, "sonnet": 0.6}), definition(unit="session"), definition(feature="x")]
    assert len({definition(), *others}) == 4
