"""Free ranges of the page: what an address may ask for, and how charts divide it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ledger_support import settled

from wallie_litellm.clock import DAY
from wallie_litellm.dashboard.formats import Formats
from wallie_litellm.dashboard.page_ranges import chosen_range, range_of
from wallie_litellm.dashboard.series_queries import ends_of
from wallie_litellm.dashboard.view_model import RANGES

MakeApp = Callable[..., Any]

NOW = 1_795_867_200.0  # 2026-11-28 12:00:00 UTC


@pytest.mark.parametrize(
    ("since", "until", "name", "step"),
    [
        ("2026-11-28T11:10", "2026-11-28T11:40:30Z", "2026-11-28T11:10Z..2026-11-28T11:41Z", 60),
        ("2026-11-28T12:10+02:00", "", "2026-11-28T10:10Z..2026-11-28T12:00Z", 300),
        ("2026-11-20", "2026-11-21", "2026-11-20T00:00Z..2026-11-21T00:00Z", 3_600),
        ("30d", "2027-01-01", "2026-10-29T12:00Z..2026-11-28T12:00Z", DAY),
        ("2025-12-01", "2026-11-28", "2025-12-01T00:00Z..2026-11-28T00:00Z", 7 * DAY),
    ],
)
def test_the_ends_of_a_free_range_are_its_name(since: str, until: str, name: str, step: int) -> None:
    found = chosen_range("24h", since, until, NOW)
    assert (found.name, found.step) == (name, step)
    assert chosen_range(name, "", "", NOW) == range_of(name) == found


@pytest.mark.parametrize(
    ("zone", "since", "until", "name"),
    [
        ("Europe/Berlin", "2026-11-28T08:00", "2026-11-28T09:00", "2026-11-28T07:00Z..2026-11-28T08:00Z"),
        ("Europe/Berlin", "2026-11-27", "2026-11-28", "2026-11-26T23:00Z..2026-11-27T23:00Z"),
        ("Europe/Berlin", "2026-11-28T08:00Z", "2026-11-28T08:00-02:00", "2026-11-28T08:00Z..2026-11-28T10:00Z"),
        # The clocks skip 2:00 to 3:00 on 2026-03-29, and have it twice on 2026-10-25.
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T04:00", "2026-03-29T01:30Z..2026-03-29T02:00Z"),
        ("Europe/Berlin", "2026-03-29T01:30", "2026-03-29T02:30", "2026-03-29T00:30Z..2026-03-29T01:30Z"),
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T02:30", "2026-10-25T00:30Z..2026-10-25T01:30Z"),
        ("Europe/Berlin", "2026-10-25T01:30", "2026-10-25T03:00", "2026-10-24T23:30Z..2026-10-25T02:00Z"),
        ("America/New_York", "2026-11-01T01:15", "2026-11-01T01:15", "2026-11-01T05:15Z..2026-11-01T06:15Z"),
    ],
)
def test_times_without_an_offset_are_of_the_zone_and_come_back_as_they_were_written(
    zone: str, since: str, until: str, name: str
) -> None:
    found = chosen_range(None, since, until, NOW, zone)
    assert found.name == name
    assert chosen_range(name, "", "", NOW, zone) == found
    assert found.until is not None
    formats = Formats("en", zone)
    ends = formats.field(found.until - found.seconds), formats.field(found.until)
    assert chosen_range(None, *ends, NOW, zone) == found


def test_a_range_over_a_change_of_the_clocks_is_shown_with_both_zones() -> None:
    formats, night = Formats("en", "Europe/Berlin"), range_of("2026-10-25T00:30Z..2026-10-25T01:30Z")
    assert night.until is not None
    assert formats.span(night.until - night.seconds, night.until) == "2026-10-25 02:30 CEST \u2013 2026-10-25 02:30 CET"


def test_pages_and_the_api_read_times_in_the_configured_zone(make_app: MakeApp) -> None:
    app = make_app((), dashboard={"timezone": "Asia/Tokyo"})
    app.record([settled()])  # the ledger has its tables
    at = "since=2026-11-20T08:00&until=2026-11-20T09:00"
    for path in ("usage", "chains", "series", "providers/openai"):
        found = app.client.get(f"/wallie/api/{path}?{at}").json()
        assert (found["since"][:16], found["until"][:16]) == ("2026-11-19T23:00", "2026-11-20T00:00"), path
    for path in ("", "providers/openai"):
        page = app.client.get(f"/wallie/{path}?{at}").text
        assert "<summary>2026-11-20 08:00 \u2013 2026-11-20 09:00</summary>" in page
        assert 'name="since" value="2026-11-20T08:00"' in page
        assert "From (Asia/Tokyo)" in page
        assert "range=2026-11-19T23%3A00Z..2026-11-20T00%3A00Z" in page
    log = app.client.get(f"/wallie/requests?{at}").text
    assert ">2026-11-20 08:00 \u2013 2026-11-20 09:00 (Asia/Tokyo)</option>" in log


def test_a_free_range_is_read_in_whole_quarters_where_it_is_longer_than_two_hours() -> None:
    long = chosen_range(None, "2026-11-28T08:05", "2026-11-28T11:05", NOW)
    assert ends_of(long, NOW) == (NOW - 4 * 3_600, NOW - 2_700)
    short = chosen_range(None, "2026-11-28T08:05", "2026-11-28T08:06", NOW)
    assert ends_of(short, NOW) == (NOW - 14_100, NOW - 14_040)
    assert ends_of(RANGES["1h"], NOW) == (NOW - 3_600, None)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("since=yesterday&until=1h", "since: found &#39;yesterday&#39;, expected a time such as"),
        ("until=2026-11-20", "until: it needs a since"),
        ("since=2026-11-21&until=2026-11-20", "expected a time after since"),
        ("since=2099-01-01", "expected a time before now"),
        ("since=2020-01-01&until=2026-11-20", "expected at most 400 days before until"),
        ("range=2026-11-21..2026-11-20", "expected a time after since"),
    ],
)
def test_an_impossible_range_is_one_clear_error(make_app: MakeApp, query: str, reason: str) -> None:
    app = make_app(())
    for path in ("/wallie/", "/wallie/requests"):
        answer = app.client.get(f"{path}?{query}")
        assert (answer.status_code, answer.text.count(reason)) == (422, 1), answer.text


def test_the_api_takes_the_name_of_a_free_range(make_app: MakeApp) -> None:
    app = make_app(())
    app.record([settled()])
    found = app.client.get("/wallie/api/usage?range=2026-11-20T08:00Z..2026-11-20T12:00Z").json()
    assert (found["since"][:16], found["until"][:16]) == ("2026-11-20T08:00", "2026-11-20T12:00")
    assert app.client.get("/wallie/api/usage?range=2026-11-20..").status_code == 422
