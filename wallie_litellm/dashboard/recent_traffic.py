"""What has happened lately, as plain values: the last minutes, a day's health by half hours, and what is wrong now.

Times named ``at``, ``start``, ``since`` are Unix seconds, shares 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wallie_litellm.ledger.figures import FallbackCount, RecordedFailure, RequestTotals, Totals, Transition

WINDOW: Final = 300.0  # seconds, what "lately" is on the page
CELL: Final = 1_800  # seconds of a cell of the strip of health
CELLS: Final = 48  # in a strip: 24 hours
HEALTH_DAY: Final = CELL * CELLS  # seconds


@dataclass(frozen=True, slots=True)
class RecentTraffic:
    """The last ``WINDOW`` seconds: all requests, and of each provider its attempts and its last failed one.

    ``changes`` are those of breakers and health, the latest first.
    """

    requests: RequestTotals
    by_provider: Mapping[str, Totals]
    last_failures: Mapping[str, RecordedFailure]
    fallbacks: Sequence[FallbackCount] = ()
    changes: Sequence[Transition] = ()

    @property
    def per_minute(self) -> float:
        """Requests that ended, a minute."""
        return self.requests.requests / (WINDOW / 60)


@dataclass(frozen=True, slots=True)
class HealthCell:
    """Half an hour of a provider's: its attempts, those that failed, and for how many seconds it was down.

    ``level`` is healthy, degraded or down, empty where nothing was asked of it.
    """

    start: int
    attempts: int
    failures: int
    down_for: float
    level: str


@dataclass(frozen=True, slots=True)
class HealthDay:
    """The last 24 hours: the cells of each provider that was called or has changed, and the changes, latest first."""

    cells: Mapping[str, tuple[HealthCell, ...]]
    changes: Sequence[Transition] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """A provider that does not simply answer: ``kind`` is stopped, down, paused or degraded.

    ``since`` is ``None`` where that is not on record. ``models`` are those that are down where the provider is not.
    """

    provider: str
    kind: str
    since: float | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Impact:
    """Whether callers are hurt. ``waiting`` is ``None`` where it cannot be known, ``recent`` without a ledger.

    ``troubles`` are the worst first.
    """

    providers: int
    troubles: Sequence[Trouble]
    waiting: int | None
    recent: RecentTraffic | None
