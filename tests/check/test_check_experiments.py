"""What the check finds about experiments."""

from __future__ import annotations

from typing import Any

from check_support import entry


def compared(metric: str, arms: tuple[str, str] = ("gpt-4o", "b"), **wallie: Any) -> dict[str, Any]:
    experiment = {"feature": "chat", "metric": metric, "arms": dict.fromkeys(arms, 0.5)}
    return {"features": {"chat": {}}, "experiments": {"m": experiment}, **wallie}


def first() -> dict[str, Any]:
    return {**entry("openai/gpt-4o"), "model_name": "gpt-4o"}


def unpriced() -> dict[str, Any]:
    return {**entry("openai/of-our-own", api_base="http://127.0.0.1:1/v1"), "model_name": "b"}


def test_arms_that_can_be_compared_are_neither_problem_nor_note(check: Any) -> None:
    other = {**entry("openai/gpt-4o-mini"), "model_name": "b"}
    report = check(first(), other, wallie=compared("cost"))
    assert (report.problems, report.notes) == ((), ())


def test_an_arm_without_a_price_is_noted_where_cost_decides(check: Any) -> None:
    said = "wallie.experiments.m.metric: without a known price, requests of b are left out of the cost"
    assert any(said in note for note in check(first(), unpriced(), wallie=compared("cost")).notes)
    assert not any(said in note for note in check(first(), unpriced(), wallie=compared("success")).notes)


def test_two_arms_that_begin_with_one_group_are_noted(check: Any) -> None:
    tiers = {"routing": {"tiers": {"quick": ["gpt-4o"]}}}
    notes = check(first(), wallie=compared("success", ("gpt-4o", "quick"), **tiers)).notes
    assert any("wallie.experiments.m.arms: gpt-4o and quick ask the same group first, gpt-4o" in note for note in notes)
