"""How long a provider asks its callers to wait."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.retry_after import LONGEST, parse_retry_after, parse_wait_in_text

WALL = 1_790_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("20", 20.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("-5", 0.0),
        ("90", 90.0),
        ("100000000", LONGEST),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("1e999", None),
        ("soon", None),
        ("", None),
        ("20s", 20.0),
        ("1m30s", 90.0),
        ("6m0s", 360.0),
        ("250ms", 0.25),
        ("48h", LONGEST),
        ("1m 30s", None),
        ("m", None),
    ],
)
def test_seconds_are_read(value: str, seconds: float | None) -> None:
    assert parse_retry_after({"Retry-After": value}, WALL) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(120, 120.0), (0, 0.0), (-3600, 0.0), (10 * LONGEST, LONGEST)])
def test_http_dates_are_read(ahead: float, seconds: float) -> None:
    date = formatdate(WALL + ahead, usegmt=True)
    assert parse_retry_after({"retry-after": date}, WALL) == seconds


@pytest.mark.parametrize(
    "date",
    [
        "Sunday, 20-Sep-26 14:15:20 GMT",  # RFC 850, which recipients must accept
        "Sun, 20 Sep 2026 14:15:20 -0000",  # no zone known: taken for UTC
        "Sun, 20 Sep 2026 16:15:20 +0200",
    ],
)
def test_obsolete_forms_of_a_date_are_read(date: str) -> None:
    assert parse_retry_after({"retry-after": date}, 1_789_913_710.0) == 10.0


@pytest.mark.parametrize("date", ["Sun, 31 Feb 2026 14:15:20 GMT", "Sun, 20 Sep 99999999999999999999 14:15:20 GMT"])
def test_a_date_that_does_not_exist_is_ignored(date: str) -> None:
    assert parse_retry_after({"retry-after": date}, WALL) is None


def test_milliseconds_take_precedence_over_seconds() -> None:
    assert parse_retry_after({"retry-after": "2", "Retry-After-Ms": "1250"}, WALL) == 1.25
    assert parse_retry_after({"retry-after-ms": "-10"}, WALL) == 0.0
    assert parse_retry_after({"retry-after-ms": "1e12"}, WALL) == LONGEST


def test_azures_own_header_is_in_milliseconds() -> None:
    assert parse_retry_after({"x-ms-retry-after-ms": "2500"}, WALL) == 2.5
    assert parse_retry_after({"retry-after": "3", "x-ms-retry-after-ms": "2500"}, WALL) == 2.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("please retry in 13.403s.", 13.403),
        ("please try again in 7m12s. visit", 432.0),
        ("please try again in 644ms.", 0.644),
        ("please retry after 7 seconds.", 7.0),
        ("try again in 2 minutes", 120.0),
        ("please try again in 114h18m0s.", LONGEST),
        ('"retrydelay": "13s"', 13.0),
        ('please retry in 13.4s", "retrydelay":"13s"', 13.4),
        ("you will regain access on 2026-09-21 at 14:33 utc.", 1180.0),
        ("you will regain access on 2027-12-01 at 00:00 utc.", LONGEST),
        ("you will regain access on 2020-12-01 at 00:00 utc.", 0.0),
        ("you will regain access on 2026-13-41 at 00:00 utc.", None),
        ("please retry shortly", None),
        ("", None),
    ],
)
def test_a_wait_in_the_text_of_an_answer_is_read(text: str, seconds: float | None) -> None:
    assert parse_wait_in_text(text, WALL) == (None if seconds is None else pytest.approx(seconds))


def test_seconds_are_read_where_milliseconds_are_unusable() -> None:
    assert parse_retry_after({"retry-after": "2", "retry-after-ms": "nan"}, WALL) == 2.0


def test_headers_under_litellms_names_are_read() -> None:
    assert parse_retry_after({"llm_provider-retry-after": "3"}, WALL) == 3.0
    assert parse_retry_after({"llm_provider-retry-after-ms": "500"}, WALL) == 0.5


@pytest.mark.parametrize("headers", [None, {}, {"x-request-id": "1"}])
def test_headers_without_a_wait_give_none(headers: dict[str, str] | None) -> None:
    assert parse_retry_after(headers, WALL) is None


DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Xyz"]),
    st.integers(-1, 10**22),
    st.sampled_from(["Jan", "Feb", "Foo"]),
    st.integers(-1, 10**22),
    *[st.integers(-1, 99)] * 3,
    st.sampled_from(["GMT", "+0200", "-9999", "+99999999999", ""]),
)


@given(st.text() | st.floats().map(str) | DATES)
@settings(deadline=None, max_examples=300)
def test_any_header_text_gives_a_wait_within_bounds_or_none(value: str) -> None:
    seconds = parse_retry_after({"retry-after": value}, WALL)
    assert seconds is None or 0 <= seconds <= LONGEST
