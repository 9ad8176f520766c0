"""What the check finds about the hedges of features."""

from __future__ import annotations

from typing import Any

from check_support import entry

CHAIN = {"router_settings": {"fallbacks": [{"a": ["b"]}]}}


def hedged(**hedge: Any) -> dict[str, Any]:
    return {"features": {"chat": {"first_token": "8s", "hedge": hedge}}}


def other(**params: Any) -> dict[str, Any]:
    return {**entry("openai/gpt-4o-mini", **params), "model_name": "b"}


def test_a_hedge_along_a_chain_is_neither_problem_nor_note(check: Any) -> None:
    report = check(entry("openai/gpt-4o"), other(), wallie=hedged(max_usd_day=1), **CHAIN)
    assert (report.problems, report.notes) == ((), ())


def test_a_hedge_without_a_chain_is_noted(check: Any) -> None:
    [note] = check(entry("openai/gpt-4o"), wallie=hedged()).notes
    assert "wallie.features.chat.hedge: no model group has a chain" in note


def test_a_hedge_after_the_first_token_has_to_have_come_is_noted(check: Any) -> None:
    [note] = check(entry("openai/gpt-4o"), other(), wallie=hedged(after="8s"), **CHAIN).notes
    assert "wallie.features.chat.hedge.after: found 8 s, when a call has failed already: first_token is 8 s" in note


def test_a_member_without_a_price_is_noted_where_dollars_are_limited(check: Any) -> None:
    unpriced = {**entry("openai/of-our-own", api_base="http://127.0.0.1:1/v1"), "model_name": "b"}
    notes = check(entry("openai/gpt-4o"), unpriced, wallie=hedged(max_usd_day=1), **CHAIN).notes
    assert any(
        "wallie.features.chat.hedge.max_usd_day: without a known price, b is never hedged to" in note for note in notes
    )
    notes = check(entry("openai/gpt-4o"), unpriced, wallie=hedged(), **CHAIN).notes
    assert not any("hedge" in note for note in notes)
