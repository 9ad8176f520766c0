"""What the check finds about forecasts and alerts."""

from __future__ import annotations

from typing import Any

from check_support import entry

DAYS: dict[str, Any] = {"providers": {"openai": {"models": {"gpt-4o*": {"rpd": 100}}}}}


def test_days_without_a_ledger_are_noted_unless_their_alerts_are_off(check: Any) -> None:
    [note] = check(entry("openai/gpt-4o"), wallie={**DAYS, "ledger": None}).notes
    assert "wallie.forecast: without a ledger limits per day are forecast by a line" in note
    assert not check(entry("openai/gpt-4o"), wallie={**DAYS, "ledger": None, "forecast": {"alert": False}}).notes
    assert not check(entry("openai/gpt-4o"), wallie={"ledger": None}).notes


def test_a_lead_of_more_than_a_day_is_noted(check: Any) -> None:
    [note] = check(entry("openai/gpt-4o"), wallie={"forecast": {"lead": "30h"}}).notes
    assert "wallie.forecast.lead: found 30 h" in note


def test_an_alert_of_queues_where_nothing_waits_is_noted(check: Any) -> None:
    wallie: dict[str, Any] = {"alerts": {"queue": 20}, "admission": {"max_wait": 0, "pause_patience": 0}}
    [note] = check(entry("openai/gpt-4o"), wallie=wallie).notes
    assert "wallie.alerts.queue: no request ever waits" in note
    waits = {"features": {"nightly": {"max_wait": "1m"}}}
    assert not check(entry("openai/gpt-4o"), wallie={**wallie, **waits}).notes
