"""The strip of a provider's health over 24 hours: from sums by half hours, and from changes of health. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from wallie_litellm.dashboard.recent_traffic import CELL, CELLS, HealthCell
from wallie_litellm.ledger.figures import Totals, Transition

DEGRADED_FROM: Final = 0.01  # share of failed attempts in a cell from which on it is degraded
DOWN_FROM: Final = 0.5  # share of failed attempts, or of the cell's time, from which on it is down

Span = tuple[float, float]  # from, to before


def health_cells(
    found: Sequence[Totals], changes: Sequence[Transition], since: int, now: float
) -> dict[str, tuple[HealthCell, ...]]:
    """The cells of each provider, from ``since`` on.

    ``found`` are sums by provider and cell, ``changes`` the latest first.
    """
    sums: dict[str, dict[int, Totals]] = {}
    for one in found:
        sums.setdefault(one.provider or "", {})[one.start or 0] = one
    down = {
        name: list(_down_spans(name, changes, sums.get(name, {}), since, now))
        for name in {*sums, *(change.provider for change in changes if _is_providers(change))}
    }
    starts = range(since, since + CELL * CELLS, CELL)
    return {
        name: tuple(_cell(start, sums.get(name, {}).get(start), spans, now) for start in starts)
        for name, spans in down.items()
    }


def _is_providers(change: Transition) -> bool:
    """Whether it is a change of a provider's health, rather than of a model's or a breaker."""
    return change.type == "health" and not change.model


def _down_spans(
    provider: str, changes: Sequence[Transition], sums: Mapping[int, Totals], since: float, now: float
) -> Iterator[Span]:
    """When the provider was down."""
    own = [one for one in reversed(changes) if one.provider == provider and _is_providers(one)]
    began = float(since) if own and own[0].before == "down" else None
    for change in own:
        if change.after == "down":
            began = change.at if began is None else began
        elif began is not None:
            yield began, change.at
            began = None
    if began is not None:
        yield began, _seen_again(began, sums, now)


def _seen_again(began: float, sums: Mapping[int, Totals], now: float) -> float:
    """When a provider has served again whose return is not on record: a process that ends does not write one."""
    return min((float(start) for start, one in sums.items() if start > began and one.successes), default=now)


def _cell(start: int, sums: Totals | None, down: Sequence[Span], now: float) -> HealthCell:
    until = min(float(start + CELL), now)
    down_for = sum(max(0.0, min(until, to) - max(start, since)) for since, to in down)
    attempts = sums.attempts if sums is not None else 0
    failures = sums.attempts - sums.successes - sums.by_caller if sums is not None else 0
    return HealthCell(start, attempts, failures, down_for, _level(attempts, failures, down_for, until - start))


def _level(attempts: int, failures: int, down_for: float, length: float) -> str:
    if (down_for > 0 and down_for >= DOWN_FROM * length) or (failures > 0 and failures >= DOWN_FROM * attempts):
        return "down"
    if down_for > 0 or (failures > 0 and failures >= DEGRADED_FROM * attempts):
        return "degraded"
    return "healthy" if attempts else ""
