"""What the check finds about budgets."""

from __future__ import annotations

from typing import Any

import pytest
from check_support import entry

UNPRICED = {**entry("openai/of-our-own", api_base="http://127.0.0.1:1/v1"), "model_name": "b"}
CHEAPER = {**entry("openai/gpt-4o-mini"), "model_name": "b"}
BUDGET = {"budget": {"daily_usd": 1, "on_exhausted": "cheapest"}}
CHAIN = {"router_settings": {"fallbacks": [{"a": ["b"]}]}}


@pytest.mark.parametrize(
    ("other", "wallie", "sections", "expected"),
    [
        (UNPRICED, {}, CHAIN, "features.chat.budget: without a known price, what b costs is not counted"),
        (CHEAPER, {"ledger": None}, CHAIN, "features.chat.budget: begins at zero with each start"),
        (CHEAPER, {}, {}, "features.chat.budget: no model group has a chain, so there is no cheaper member"),
        (
            CHEAPER,
            {"ledger": None, "features": {}, "keys": {"chat": BUDGET}},
            CHAIN,
            "keys.chat.budget: begins at zero",
        ),
        (CHEAPER, {}, CHAIN, None),
    ],
)
def test_what_makes_a_budget_of_no_use_is_noted(
    check: Any, other: dict[str, Any], wallie: dict[str, Any], sections: dict[str, Any], expected: str | None
) -> None:
    features = {"chat": BUDGET}
    notes = check(entry("openai/gpt-4o"), other, wallie={"features": features, **wallie}, **sections).notes
    found = [note for note in notes if "chat.budget: " in note]
    assert len(found) == (expected is not None)
    assert all(str(expected) in note for note in found)
