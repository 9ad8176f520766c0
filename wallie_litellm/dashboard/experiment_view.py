"""Experiments on the page: the intervals of their arms as positions on one scale, and effects as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wallie_litellm.core.confidence_sequence import Interval
from wallie_litellm.dashboard.formats import UNKNOWN, Formats
from wallie_litellm.ledger.experiments import ArmFigures

WIDTH: Final = 200  # of an interval's drawing, in the units of its view box
_MARGIN: Final = 6  # at both ends


@dataclass(frozen=True, slots=True)
class IntervalBar:
    """An arm's interval from ``x`` on, and the estimate within it.

    ``side`` is the verdict: ``better`` or ``worse`` than the first arm, empty while it contains no difference.
    """

    x: float
    width: float
    estimate: float
    side: str


def interval_bars(arms: Sequence[ArmFigures], *, lower_is_better: bool) -> dict[str, IntervalBar]:
    """The intervals of those arms that have one, on one scale with no difference in its middle."""
    found = {arm.arm: arm.effect for arm in arms if arm.effect is not None}
    reach = max((max(abs(effect.low), abs(effect.high)) for effect in found.values()), default=0.0) or 1.0
    return {arm: _bar(effect, reach, lower_is_better=lower_is_better) for arm, effect in found.items()}


def _bar(effect: Interval, reach: float, *, lower_is_better: bool) -> IntervalBar:
    def at(value: float) -> float:
        return round(WIDTH / 2 + value / reach * (WIDTH / 2 - _MARGIN), 2)

    side = ""
    if effect.low > 0 or effect.high < 0:
        side = "better" if (effect.high < 0) is lower_is_better else "worse"
    return IntervalBar(at(effect.low), round(at(effect.high) - at(effect.low), 2), at(effect.estimate), side)


def effect_text(formats: Formats, metric: str, value: float | None) -> str:
    """A difference from the first arm: US dollars, a number, percentage points of success, or per cent of latency."""
    if value is None:
        return UNKNOWN
    sign = "+" if value > 0 else ""
    if metric == "cost":
        return sign + formats.money(value)
    if metric == "feedback":
        return sign + formats.number(value, 3)
    if metric == "success":
        return f"{sign}{formats.number(value * 100, 1)}\u202fpp"
    return sign + formats.share(value)
