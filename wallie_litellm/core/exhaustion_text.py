"""A forecast that a limit is used up, as one short line."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

_DAY: Final = 90_000.0  # seconds of the longest; times of longer windows are shown with their dates


def exhaustion_text(
    exhausts_at: float | None, earliest: float | None, latest: float | None, reset_at: float, timezone: str, now: float
) -> str:
    """Such as ``ends 15:40 (15:10-16:30), resets 00:00 UTC``; times are Unix seconds, shown in ``timezone``.

    Without ``exhausts_at`` the limit is only at the end of the interval used up: ``may end from 15:10 on``.
    """
    zone = ZoneInfo(timezone)

    def clock(at: float | None) -> str:
        if at is None:
            return ""
        return datetime.fromtimestamp(at, zone).strftime("%H:%M" if reset_at - now <= _DAY else "%Y-%m-%d %H:%M")

    resets = f"resets {clock(reset_at)} {timezone}"
    if exhausts_at is None:
        return f"may end from {clock(earliest)} on, {resets}"
    if earliest is None:
        return f"ends {clock(exhausts_at)}, {resets}"
    return f"ends {clock(exhausts_at)} ({clock(earliest)}-{clock(latest) or 'not'}), {resets}"
