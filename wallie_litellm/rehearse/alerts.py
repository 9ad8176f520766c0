"""The alerts that a run has raised, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from wallie_litellm.events import (
    ArmStopped,
    BudgetCrossed,
    ErrorRateCrossed,
    Event,
    LimitOverstated,
    ProviderDown,
    QueueCrossed,
    QuotaCrossed,
    Unpriced,
)


def _quota(event: Any) -> tuple[str, str]:
    model = f"{event.model} at " if event.model else ""
    return event.level, f"{model}{event.provider} is at {event.utilization:.0%} of its {event.dimension} limit"


def _down(event: Any) -> tuple[str, str]:
    model = f"{event.model} at " if event.model else ""
    return "critical", f"{model}{event.provider} is down ({event.reason or 'no reason given'})"


def _budget(event: Any) -> tuple[str, str]:
    if event.on_exhausted is None:
        return event.level, f"the month has cost {event.utilization:.0%} of its budget"
    whose = " ".join(filter(None, (event.feature or "all features", event.user_id and "for a user")))
    level = "critical" if event.level == "exhausted" else event.level
    return level, f"the {event.window}'s budget of {whose} is spent to {event.utilization:.0%}"


def _unpriced(event: Any) -> tuple[str, str]:
    return "warning", f"{event.deployment} has no known price"


def _overstated(event: Any) -> tuple[str, str]:
    limits = f"{event.dimension} {event.configured:,} where the account has {event.learned:,}"
    return "warning", f"the file gives {event.model} at {event.provider} {limits}"


def _stopped(event: Any) -> tuple[str, str]:
    return "critical", f"the arm {event.arm} of {event.experiment} is stopped"


def _error_rate(event: Any) -> tuple[str, str]:
    whose = f"requests for {event.model}" if event.model else f"attempts at {event.provider}"
    text = f"{event.error_rate:.0%} of the {whose} failed in {event.window:g} s"
    return ("info", f"{text}, after {event.lasted:.0f} s") if event.resolved else ("critical", text)


def _queue(event: Any) -> tuple[str, str]:
    if event.resolved:
        return "info", f"the queue for {event.provider} is short again, after {event.lasted:.0f} s"
    return "warning", f"{event.waiting} or more have waited for {event.provider} for {event.window:g} s"


_WORDS: Final[Mapping[type[Any], Callable[[Any], tuple[str, str]]]] = {
    QuotaCrossed: _quota,
    ProviderDown: _down,
    BudgetCrossed: _budget,
    Unpriced: _unpriced,
    LimitOverstated: _overstated,
    ArmStopped: _stopped,
    ErrorRateCrossed: _error_rate,
    QueueCrossed: _queue,
}


def alerts_in(events: Iterable[Event], began: float) -> Iterator[dict[str, Any]]:
    """Each alert with the seconds from the start at which it was raised."""
    for event in events:
        words = _WORDS.get(type(event))
        if words is not None:
            level, text = words(event)
            yield {"at": round(event.at - began, 3), "level": level, "text": text}
