"""What the ledger has on record of a day and a month is the sum of the records, to the nano-dollar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from ledger_query_fixtures import ledger_file
from ledger_support import settled

from wallie_litellm.core.spending import AccountName, nano_of, periods
from wallie_litellm.events import Event
from wallie_litellm.ledger.spending import SpendingReader

__all__ = ["ledger_file"]

NOW = 1_795_860_000.0  # 2026-11-28 10:00 UTC
ZONE = "Asia/Kolkata"  # whose midnight is at 18:30 UTC


@pytest.mark.parametrize(
    "name",
    [AccountName(), AccountName("chat"), AccountName("", "u"), AccountName("chat", "u"), AccountName(key="batch")],
)
def test_the_day_and_the_month_are_sums_over_records_and_roll_ups(
    ledger_file: Callable[[Sequence[Event]], str], name: AccountName
) -> None:
    now = periods(NOW, ZONE)
    until = int(NOW)
    hours = [number * 5_000.0 for number in range(500)]
    edges = [NOW - now.day + 0.5, NOW - now.day - 0.5, NOW - now.month + 0.5, NOW - now.month - 0.5, -0.5, 0.0]
    events = [
        settled(at=NOW - before, cost_usd=0.001 * (1 + number % 7), feature=feature, user_id=user, proxy_key=key)
        for number, before in enumerate([*hours, *edges])
        for feature, user, key in (
            ("chat", "u", "batch"),
            ("chat", "v", None),
            ("mail", "u", "batch"),
            (None, None, "u"),
        )
    ]
    reader = SpendingReader(ledger_file(events), 10.0)
    expected = tuple(
        sum(
            nano_of(event.cost_usd or 0)
            for event in events
            if begins <= event.at < until
            and name.feature in ("", event.feature)
            and name.user in ("", event.user_id)
            and name.key in ("", event.proxy_key)
        )
        for begins in (now.day, now.month)
    )
    assert reader({name: until}, now)[name] == expected
