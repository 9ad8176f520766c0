"""Times as ISO 8601: in UTC, to the nearest unit of the precision."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from wallie_litellm.core.iso_time import Precision, iso_time, reset_time

MIDNIGHT = datetime(2026, 11, 28, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("at", "precision", "written"),
    [
        (0.0, "auto", "1970-01-01T00:00:00Z"),
        (0.25, "auto", "1970-01-01T00:00:00.250000Z"),
        (MIDNIGHT, "seconds", "2026-11-28T00:00:00Z"),
        (MIDNIGHT, "milliseconds", "2026-11-28T00:00:00.000Z"),
        (MIDNIGHT, "microseconds", "2026-11-28T00:00:00.000000Z"),
        (MIDNIGHT + 0.0015, "microseconds", "2026-11-28T00:00:00.001500Z"),
        (MIDNIGHT + 1.4, "seconds", "2026-11-28T00:00:01Z"),
    ],
)
def test_a_time_is_written_with_the_precision_asked_for(at: float, precision: Precision, written: str) -> None:
    assert iso_time(at, precision) == written
    assert datetime.fromisoformat(written).tzinfo == UTC


@pytest.mark.parametrize("precision", ["seconds", "milliseconds"])
def test_a_midnight_some_microseconds_early_is_written_as_midnight(precision: Precision) -> None:
    assert iso_time(MIDNIGHT - 0.000159, precision).startswith("2026-11-28T00:00:00")


def test_the_zone_is_written_as_asked_for() -> None:
    assert iso_time(MIDNIGHT, utc="+00:00") == "2026-11-28T00:00:00+00:00"


def test_a_year_beyond_9999_is_an_error() -> None:
    with pytest.raises(ValueError, match="year"):
        iso_time(1e12)


def test_a_limit_is_as_good_as_new_after_a_year_at_most():
    assert reset_time(MIDNIGHT, 1.5) == "2026-11-28T00:00:01.500Z"
    assert reset_time(MIDNIGHT, float("inf")) == "2027-11-29T00:00:00.000Z"
