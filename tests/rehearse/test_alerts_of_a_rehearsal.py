"""The alerts of a rehearsal, in words."""

from __future__ import annotations

import pytest

from wallie_litellm.events import BudgetCrossed
from wallie_litellm.rehearse.alerts import alerts_in

OF_MONTH = BudgetCrossed("b-1", 1_060.0, "warning", 0.8, 80.0, 100.0, "2026-11")
SPENT = OF_MONTH._replace(level="exhausted", utilization=1.0, window="day", on_exhausted="refuse")


@pytest.mark.parametrize(
    ("event", "level", "text"),
    [
        (OF_MONTH, "warning", "the month has cost 80% of its budget"),
        (SPENT._replace(feature="chat"), "critical", "the day's budget of chat is spent to 100%"),
        (SPENT._replace(user_id="u"), "critical", "the day's budget of all features for a user is spent to 100%"),
    ],
)
def test_a_budgets_alert_says_whose_it_is_and_names_no_user(event: BudgetCrossed, level: str, text: str) -> None:
    assert list(alerts_in([event], 1_000.0)) == [{"at": 60.0, "level": level, "text": text}]
